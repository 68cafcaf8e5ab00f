//! The one place that constructs the components and connects them.

use std::path::PathBuf;

use crate::telemetry::Logs;

/// What `mesh-agent run` was told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub config: PathBuf,
    /// `false`: no hooks and no maps; the proxy alone, on explicit listeners.
    pub ebpf: bool,
    pub logs: Logs,
}

/// Runs the agent until it is told to stop.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    anyhow::bail!(
        "cannot run {}: the agent's components are not connected",
        options.config.display()
    )
}
