//! A second chance for tests that failed, and the word FLAKY for those that
//! needed it: the kernel, the servers and the clock of a busy machine take part
//! in these tests. A test that fails twice has failed.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// More failures than this are no bad luck.
const MOST: usize = 3;

/// Runs `cargo test …`, and the targets that failed once more.
pub fn run(command: &mut Command, environment: &[(&str, &std::ffi::OsStr)]) -> Result<()> {
    let failed = targets_that_fail(command)?;
    if failed.is_empty() {
        return Ok(());
    }
    if failed.len() > MOST {
        bail!("the tests of {} targets failed: {}", failed.len(), failed.join(", "));
    }
    for target in &failed {
        println!("\nOnce more: cargo test {target}");
        let mut again = process::cargo("test");
        again.args(target.split(' ')).envs(environment.iter().copied());
        process::run(&mut again)?;
    }
    println!("\nFLAKY, passed the second time only: {}", failed.join(", "));
    Ok(())
}

/// As cargo names them, such as `-p mesh-tests --test udp`.
fn targets_that_fail(command: &mut Command) -> Result<Vec<String>> {
    let shown = process::display(command);
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't run `{shown}`; is it installed?"))?;
    let mut failed = Vec::new();
    let messages = child.stderr.take().context("stderr is a pipe")?;
    for line in BufReader::new(messages).lines() {
        let line = line?;
        eprintln!("{line}");
        failed.extend(target(&line).map(ToOwned::to_owned));
    }
    let status = child.wait()?;
    if !status.success() && failed.is_empty() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(failed)
}

/// The target in a line of cargo's closing list.
fn target(line: &str) -> Option<&str> {
    line.strip_prefix("    `").and_then(|rest| rest.strip_suffix('`')).filter(|t| t.contains("-p "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_from_the_closing_list() {
        assert_eq!(target("    `-p mesh-tests --test udp`"), Some("-p mesh-tests --test udp"));
        assert_eq!(target("error: test failed, to rerun pass `-p mesh-tests --test udp`"), None);
        assert_eq!(target("     Running tests/udp.rs (target/debug/deps/udp-1)"), None);
    }

    #[test]
    fn what_is_not_a_failed_test_fails_at_once() {
        let error = targets_that_fail(&mut Command::new("false")).unwrap_err();
        assert!(error.to_string().contains("`false` failed"), "{error}");
    }
}
