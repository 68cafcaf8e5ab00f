//! What a developer and CI call, as `cargo xtask COMMAND`.
//!
//! Nothing here depends on the agent's crate: on a clean machine this has to
//! compile before the toolchain for the kernel programs is even there.
//!
//! Ctrl-C needs no handler: the commands that are run stand in the same process
//! group and end with it, and nothing here leaves a state that a next run
//! would not repair.

mod bench;
mod build;
mod ci;
mod demo;
mod docs;
mod image;
mod instructions;
mod kernel_lint;
mod plot;
mod process;
mod setup;
mod stress;
mod test;
mod tidy;
#[path = "../../mesh-ebpf/toolchain.rs"]
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything that is done with this repository, from a clean machine to CI.
///
/// A first day: `cargo xtask build`, then `cargo xtask test` (as root, which the
/// kernel asks for), and before a commit `cargo xtask ci`. Each command installs
/// what it needs by itself.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Setup(setup::Arguments),
    Build(build::Arguments),
    Demo(demo::DemoOptions),
    Test(test::Arguments),
    Ci(ci::Arguments),
    Tidy(tidy::Arguments),
    Docs(docs::Arguments),
    Image(image::Arguments),
    Plot(plot::Arguments),
    Bench(Box<bench::Arguments>),
    Instructions(instructions::Arguments),
    Stress(stress::Arguments),
}

impl Task {
    fn run(&self) -> Result<()> {
        match self {
            Self::Setup(arguments) => setup::run(arguments.purpose),
            Self::Build(arguments) => build::run(*arguments),
            Self::Demo(options) => demo::run(options),
            Self::Test(arguments) => test::run(arguments),
            Self::Ci(arguments) => ci::run(arguments),
            Self::Tidy(arguments) => tidy::run(arguments),
            Self::Docs(_) => docs::write(),
            Self::Image(arguments) => image::run(arguments),
            Self::Plot(arguments) => plot::run(arguments),
            Self::Bench(arguments) => bench::run(arguments),
            Self::Instructions(arguments) => instructions::run(arguments),
            Self::Stress(arguments) => stress::run(arguments),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
