//! `mesh-agent schema`

use super::{Verdict, output::print};
use crate::config;

/// Prints the JSON Schema of the configuration
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Prints the JSON Schema of the configuration, so that editors complete and check it.

Examples:
  mesh-agent schema > mesh.schema.json
  # in mesh.yaml: `# yaml-language-server: $schema=mesh.schema.json`")]
pub struct Args {}

pub fn run() -> anyhow::Result<Verdict> {
    print(&(serde_json::to_string_pretty(&config::schema())? + "\n"))?;
    Ok(Verdict::Yes)
}
