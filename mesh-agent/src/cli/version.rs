//! `mesh-agent version`

use serde::Serialize;

use super::{Verdict, output::Output};
use crate::datapath::ABI_VERSION;

/// Prints the version
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Prints the version of this program and of the maps that it pins: agents of one ABI \
version adopt each other's maps.

Examples:
  mesh-agent version
  mesh-agent version -o json | jq -r .version")]
pub struct Args {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    version: &'static str,
    abi: u32,
    architecture: &'static str,
}

pub(super) const THIS: Version = Version {
    version: env!("CARGO_PKG_VERSION"),
    abi: ABI_VERSION,
    architecture: std::env::consts::ARCH,
};

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    args.output.print(&THIS, |version| {
        let Version { version, abi, architecture } = version;
        format!("mesh-agent {version} (map ABI {abi}, {architecture})\n")
    })?;
    Ok(Verdict::Yes)
}
