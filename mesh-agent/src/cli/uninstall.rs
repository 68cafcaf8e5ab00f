//! `mesh-agent uninstall`

use std::path::PathBuf;

use anyhow::Context as _;

use super::{
    Verdict,
    output::{Sign, print},
    unit,
};
use crate::{config, datapath, model::Capture};

/// Detaches all hooks and removes what is pinned
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Detaches all hooks and removes everything that an agent left pinned. Stop the agent \
first: from then on connections to virtual addresses go nowhere. Live connections \
of the kernel path are not touched.

Examples:
  sudo mesh-agent uninstall
  sudo mesh-agent uninstall --config mesh.yaml")]
pub struct Args {
    /// The configuration, which says where things are pinned
    #[arg(long, value_name = "FILE", conflicts_with = "pins")]
    config: Option<PathBuf>,
    /// The folder that they are pinned under
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let pins = match (&args.pins, &args.config) {
        (Some(pins), _) => pins.clone(),
        (None, None) => Capture::default().pins,
        (None, Some(file)) => {
            config::load(file).context("with --pins DIR no configuration is needed")?.capture.pins
        }
    };
    let removed = datapath::uninstall(&pins)?;
    let mut text: String = removed.iter().map(|what| format!("removed {what}\n")).collect();
    text += &match removed.len() {
        0 => format!("{} nothing is pinned under {}\n", Sign::Good, pins.display()),
        some => format!("{} uninstalled: {} removed\n", Sign::Good, unit::of(some, "object")),
    };
    print(&text)?;
    Ok(Verdict::Yes)
}
