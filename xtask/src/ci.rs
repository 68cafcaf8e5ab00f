//! `cargo xtask ci`: every check, in one go, with one line for each.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    instructions, process,
    setup::{self, Purpose},
    test, tidy,
    toolchain::Toolchain,
    workspace,
};

/// Run every check that a change has to pass, and go on after one that fails.
///
/// Formatting, clippy for the host and for the kernel programs (warnings are
/// errors), tidy, the API docs, what the hot path costs in instructions, and all
/// tests.
#[derive(Debug, Clone, Copy, Args)]
pub struct Arguments {
    /// Leave the tests out, where `cargo xtask test` runs anyway
    #[arg(long)]
    skip_test: bool,
}

type Check = fn() -> Result<()>;

/// In the order of how soon they fail.
const CHECKS: [(&str, Check); 6] = [
    ("fmt", format),
    ("clippy", clippy_host),
    ("clippy-bpf", clippy_kernel),
    ("tidy", || tidy::run(&tidy::Arguments::all())),
    ("docs", api_docs),
    ("instructions", || instructions::run(&instructions::Arguments::compare())),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Ci)?;
    let tests: (&str, Check) = ("test", || test::run(&test::Arguments::all()));
    let mut results = Vec::new();
    for (name, check) in CHECKS.into_iter().chain((!arguments.skip_test).then_some(tests)) {
        eprintln!("== {name}");
        let started = Instant::now();
        let result = check();
        if let Err(error) = &result {
            eprintln!("{error:#}");
        }
        results.push((name, started.elapsed(), result.is_ok()));
        eprintln!("{}", line(results[results.len() - 1]));
    }
    println!("\nsummary");
    for result in &results {
        println!("{}", line(*result));
    }
    let failed: Vec<_> = results.iter().filter(|(.., ok)| !ok).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn line((name, took, ok): (&str, Duration, bool)) -> String {
    let verdict = if ok { "ok" } else { "FAILED" };
    format!("  {name:<12} {verdict:<6} {:6.1} s", took.as_secs_f64())
}

fn format() -> Result<()> {
    process::run(process::cargo("fmt").args(["--all", "--check"]))
}

fn clippy_host() -> Result<()> {
    let mut command = process::cargo("clippy");
    command.args([
        "--workspace",
        "--exclude",
        "mesh-ebpf",
        "--all-targets",
        "--quiet",
        "--keep-going",
    ]);
    process::run(command.args(["--", "-D", "warnings"]))
}

fn clippy_kernel() -> Result<()> {
    let toolchain = Toolchain::find().map_err(|missing| anyhow::anyhow!(missing.message()))?;
    // The build's own folder: what both need is compiled once.
    let mut command = toolchain.clippy(&workspace::target()?.join("ebpf"));
    process::run(command.current_dir(workspace::root()))
}

fn api_docs() -> Result<()> {
    let mut command = process::cargo("doc");
    command.args(["--no-deps", "--lib", "--quiet"]);
    command.args(["--package", "mesh-agent", "--package", "mesh-common"]);
    let mut flags = env::var_os("RUSTDOCFLAGS").unwrap_or_default();
    flags.push(" -D warnings");
    process::run(command.env("RUSTDOCFLAGS", flags))
}
