//! The one place that constructs the components and connects them.

use std::path::PathBuf;

use crate::telemetry::Logs;

/// What `mesh-agent run` was told.
#[derive(Debug)]
pub struct RunOptions {
    pub config: PathBuf,
    /// `false`: no hooks and no maps; the proxy alone, on explicit listeners.
    pub ebpf: bool,
    /// Instead of the file's `admin.socket`.
    pub socket: Option<PathBuf>,
    pub logs: Logs,
}

/// Runs the agent until it is told to stop.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    anyhow::bail!(
        "cannot run {}: the agent's components are not connected",
        options.config.display()
    )
}
