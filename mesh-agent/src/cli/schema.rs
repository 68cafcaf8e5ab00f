//! `mesh-agent schema`

use super::{Verdict, output::print};
use crate::{config, kubernetes};

/// Prints the JSON Schema of the configuration
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Prints the JSON Schema of the configuration, so that editors complete and check it.

Examples:
  mesh-agent schema > mesh.schema.json
  # in mesh.yaml: `# yaml-language-server: $schema=mesh.schema.json`
  mesh-agent schema --crd | kubectl apply -f -")]
pub struct Args {
    /// The CustomResourceDefinition of MeshPolicy instead, as YAML
    #[arg(long)]
    crd: bool,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    if args.crd {
        print(&serde_saphyr::to_string(&kubernetes::policy::crd())?)?;
    } else {
        print(&(serde_json::to_string_pretty(&config::schema())? + "\n"))?;
    }
    Ok(Verdict::Yes)
}
