//! `cargo xtask test`: all tests; the ones that need the kernel as root.

mod again;

use std::{env, ffi::OsString, process::Command};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    build, process,
    setup::{self, Purpose},
};

/// Run all tests: those of each crate, and those that load the programs into the kernel.
///
/// The latter make pods of network namespaces and cgroups, so they need root.
/// Without root they are compiled and named, not run; with CI set in the
/// environment that is a failure.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only the tests whose name contains this
    filter: Option<String>,
    /// Give test programs that fail a second chance, and name those that needed it
    #[arg(long)]
    again: bool,
    /// Handed to the test programs, e.g. `-- --nocapture`
    #[arg(last = true)]
    rest: Vec<OsString>,
}

impl Arguments {
    /// Every test.
    pub fn all() -> Self {
        Self { filter: None, again: true, rest: Vec::new() }
    }

    /// `cargo test` of everything for the host. mesh-ebpf compiles for the
    /// kernel only; what is testable in it lives in mesh-common.
    fn cargo(&self) -> Command {
        let mut command = process::cargo("test");
        command.args(["--workspace", "--exclude", "mesh-ebpf", "--no-fail-fast"]);
        command
    }

    fn finish<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.args(&self.filter).arg("--").args(&self.rest)
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let root = process::is_root()?;
    // Test tools are for the privileged tests: no reason to fail over them where those can't run.
    setup::ensure(if root { Purpose::Test } else { Purpose::Build })?;
    let agent = build::agent(false)?;
    let mut command = arguments.cargo();
    command.env("MESH_AGENT_BIN", &agent);
    if root {
        return match arguments.again {
            true => {
                let environment = [("MESH_AGENT_BIN", agent.as_os_str())];
                again::run(arguments.finish(&mut command), &environment)
            }
            false => process::run(arguments.finish(&mut command)),
        };
    }
    command.args(["--exclude", "mesh-tests"]);
    process::run(arguments.finish(&mut command))?;
    report_skipped(arguments)
}

/// Compiles the privileged tests, so that at least that is known of them, and names them.
fn report_skipped(arguments: &Arguments) -> Result<()> {
    let mut command = process::cargo("test");
    command.args(["--quiet", "--package", "mesh-tests"]).args(&arguments.filter);
    let listed = process::output(command.args(["--", "--list"]))?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    if names.is_empty() {
        return Ok(());
    }
    println!("\nNOT RUN, {} tests:", names.len());
    for name in &names {
        println!("  {name}");
    }
    println!(
        "They load programs into the kernel and make namespaces and cgroups, which needs root:\n  \
         sudo -E env PATH=\"$PATH\" HOME=\"$HOME\" cargo xtask test"
    );
    if env::var_os("CI").is_some() {
        bail!("{} tests were not run for lack of root, and CI is set", names.len());
    }
    Ok(())
}
