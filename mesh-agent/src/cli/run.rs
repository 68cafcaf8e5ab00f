//! `mesh-agent run`

use std::path::PathBuf;

use super::Verdict;
use crate::{
    app::{self, RunOptions},
    telemetry::{Logs, logs},
};

/// Runs the agent
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Runs the agent of this node in the foreground: attaches the hooks to the captured \
cgroups, listens in their network namespaces, balances, and answers the other \
commands.

SIGHUP, a change of the file and `mesh-agent reload` read the file again; a bad one \
is refused and the good one serves on. SIGTERM and SIGINT drain and end. The hooks \
stay attached when the agent ends, so that the kernel path goes on; `mesh-agent \
uninstall` removes them.

Examples:
  mesh-agent run --config /etc/mesh-agent/mesh.yaml
  mesh-agent run --config mesh.yaml --log info,mesh_agent::proxy=debug
  mesh-agent run --config mesh.yaml --no-ebpf")]
pub struct Args {
    /// The configuration: see docs/configuration.md, or `mesh-agent schema`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Proxies on explicit listeners only: no hooks, no privileges
    #[arg(long)]
    no_ebpf: bool,
    /// What is logged: error, warn, info, debug, trace, or levels by module
    #[arg(
        long,
        value_name = "FILTER",
        env = logs::ENVIRONMENT,
        hide_env_values = true,
        default_value = logs::DEFAULT
    )]
    log: String,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let logs = Logs::init(&args.log)?;
    app::run(RunOptions { config: args.config.clone(), ebpf: !args.no_ebpf, logs })?;
    Ok(Verdict::Yes)
}
