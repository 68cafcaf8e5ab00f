//! `mesh-agent logs`

use super::{
    Ask, Verdict,
    output::{Output, Sign},
};
use crate::admin::LogLevel;

/// Shows or changes what the running agent logs
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Shows what the running agent logs, or changes it until the agent ends. The kernel \
programs follow the level.

Examples:
  mesh-agent logs
  mesh-agent logs --level debug
  mesh-agent logs --level info,mesh_agent::proxy=trace")]
pub struct Args {
    /// A level (error, warn, info, debug, trace), or levels by module
    #[arg(long, value_name = "FILTER")]
    level: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let level = match &args.level {
        None => ask.client(async |client| client.log_level().await)?,
        Some(filter) => {
            let level = LogLevel { filter: filter.clone() };
            ask.client(async |client| client.set_log_level(&level).await)?
        }
    };
    args.output.print(&level, |level| format!("{} logging: {}\n", Sign::Good, level.filter))?;
    Ok(Verdict::Yes)
}
