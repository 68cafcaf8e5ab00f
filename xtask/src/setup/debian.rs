//! Debian's route: apt-get, and no service started by it.

use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path, process, process::Command};

use anyhow::{Context, Result};

use crate::process as programs;

/// The compiler with `core` for BPF, its clippy, and the LLVM that bpf-linker
/// links with (which has to be the compiler's own version).
pub const COMPILER: [&str; 5] =
    ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy", "llvm-22-dev", "g++"];
/// The feature of bpf-linker for that LLVM.
pub const LLVM: &str = "llvm-22";
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// What Debian's maintainer scripts ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub fn is_here() -> bool {
    programs::find_program("apt-get").is_some()
}

/// Fetches the lists of packages: those of an image are often too old to install from.
pub fn update() -> Result<()> {
    println!("apt-get update");
    programs::run(apt().args(["update", "--quiet=2"]))
}

/// Whether what bpf-linker is compiled against is there.
pub fn has_llvm() -> bool {
    Path::new(LLVM_PREFIX).join("include/llvm-c/Core.h").is_file()
}

/// Whether all of these can be installed.
pub fn offers(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        programs::output(Command::new("apt-cache").args(["policy", package]))
            .is_ok_and(|text| has_candidate(&text))
    })
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|candidate| candidate.trim() != "(none)")
}

/// Installs them, and starts nothing: the tests run their own nginx inside
/// their own namespaces, and one on the host would only take port 80.
pub fn install(packages: &[&str]) -> Result<()> {
    println!("apt-get install {}", packages.join(" "));
    let brings_nginx = packages.contains(&"nginx-light");
    let no_services = NoServices::begin(Path::new(POLICY))?;
    let mut command = apt();
    command.args(["install", "--yes", "--quiet=2", "--no-install-recommends"]).args(packages);
    programs::run(&mut command)?;
    drop(no_services);
    if brings_nginx && Path::new("/run/systemd/system").is_dir() {
        println!("nginx is not started, and disabled at boot: only the tests use it");
        programs::run(Command::new("systemctl").args(["--quiet", "disable", "nginx.service"]))?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While this lives, packages that are installed start no service.
///
/// The file that says so asks whether its writer still runs: one that a killed
/// setup leaves behind forbids nothing, and the next setup removes it.
struct NoServices<'a> {
    path: Option<&'a Path>,
}

const MARK: &str = "# Written by `cargo xtask setup`";

impl<'a> NoServices<'a> {
    fn begin(path: &'a Path) -> Result<Self> {
        match fs::read_to_string(path) {
            // The administrator's own policy stands, whatever it says.
            Ok(text) if !text.contains(MARK) => return Ok(Self { path: None }),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("can't read {}", path.display()));
            }
            _ => {}
        }
        let script = format!(
            "#!/bin/sh\n{MARK}: no service starts while it installs.\n\
             kill -0 {} 2>/dev/null && exit 101\nexit 0\n",
            process::id()
        );
        fs::write(path, script)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self { path: Some(path) })
    }
}

impl Drop for NoServices<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("can't remove {}, which is harmless: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn a_candidate_is_a_version() {
        assert!(has_candidate("wrk:\n  Installed: (none)\n  Candidate: 4.1.0-3+b2\n"));
        assert!(!has_candidate("wrk:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }

    #[test]
    fn the_policy_forbids_while_it_lives_and_goes_away() {
        let path = env::temp_dir().join(format!("mesh-policy-{}", process::id()));
        let guard = NoServices::begin(&path).unwrap();
        let code = Command::new("sh").arg(&path).status().unwrap().code();
        assert_eq!(code, Some(101));
        drop(guard);
        assert!(!path.exists());
    }

    #[test]
    fn a_policy_left_by_a_killed_setup_is_taken_over_and_a_foreign_one_is_kept() {
        let path = env::temp_dir().join(format!("mesh-policy-left-{}", process::id()));
        fs::write(&path, format!("#!/bin/sh\n{MARK}\n")).unwrap();
        drop(NoServices::begin(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "#!/bin/sh\nexit 104\n").unwrap();
        drop(NoServices::begin(&path).unwrap());
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
}
