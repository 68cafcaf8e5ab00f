//! `cargo xtask build`: the agent, one file with the kernel programs inside.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    process,
    setup::{self, Purpose},
    workspace,
};

/// Compile the kernel programs, the agent that carries them, and the demo application.
///
/// The agent is one file: copy it to a node and run it there.
#[derive(Debug, Clone, Copy, Args)]
pub struct Arguments {
    /// Optimise (slow to compile; what is measured and shipped)
    #[arg(long)]
    pub release: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let agent = agent(arguments.release)?;
    #[expect(clippy::cast_precision_loss, reason = "one decimal of a size in MiB is shown")]
    let size = agent.metadata()?.len() as f64 / f64::from(1 << 20);
    println!("{} ({size:.1} MiB)", agent.display());
    Ok(())
}

/// Builds the agent and Bookinfo; where the agent's binary is.
pub fn agent(release: bool) -> Result<PathBuf> {
    let mut command = process::cargo("build");
    command.args(["--package", "mesh-agent", "--package", "bookinfo"]);
    if release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    let agent = workspace::target()?.join(profile).join("mesh-agent");
    agent.metadata().with_context(|| format!("cargo built no {}", agent.display()))?;
    Ok(agent)
}
