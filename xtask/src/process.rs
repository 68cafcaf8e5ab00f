//! Runs other programs, and says which one failed and how.

use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The cargo that runs xtask, in the repository's root.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(workspace::root());
    command
}

/// Runs it with the terminal as its own.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(())
}

/// Runs it and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| not_started(command))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            display(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is no UTF-8", display(command)))
}

/// Whether it can be run and ends well; what it prints is nobody's concern.
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// As one would type it.
pub fn display(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The program of that name. The sbin folders count too: a user's PATH often
/// lacks them, while the tests, which run as root, have them.
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Whether this process may do what only root may. The owner of our own entry
/// in /proc is the effective user, which spares a dependency for one number.
pub fn is_root() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(Path::new("/proc/self").metadata()?.uid() == 0)
}

fn not_started(command: &Command) -> String {
    format!("can't run `{}`; is it installed?", display(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command() {
        let error = run(Command::new("false").arg("--really")).unwrap_err();
        assert!(error.to_string().contains("`false --really` failed"), "{error}");
        let error = output(&mut Command::new("mesh-no-such-program")).unwrap_err();
        assert!(error.to_string().contains("mesh-no-such-program"), "{error}");
    }

    #[test]
    fn programs_are_found_on_path_only_by_their_whole_name() {
        assert!(find_program("sh").is_some());
        assert!(find_program("sh-that-is-not-there").is_none());
    }
}
