//! `mesh-agent uninstall`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    Verdict,
    output::{Sign, print},
    runtime,
    signals::stopped,
    unit,
};
use crate::{
    admin, app, config, datapath,
    model::{Admin, Capture},
};

/// Detaches all hooks and removes what is pinned
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Detaches all hooks and removes everything that an agent left: what is pinned, and \
beside its socket what it kept of the cluster and of its sources. Stop the agent \
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
    /// Wait for SIGTERM afterwards, as a container of a DaemonSet has to
    #[arg(long)]
    stay: bool,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let (pins, socket) = match (&args.pins, &args.config) {
        (Some(pins), _) => (pins.clone(), None),
        (None, None) => (Capture::default().pins, Some(Admin::default().socket)),
        (None, Some(file)) => {
            let settings =
                config::load(file).context("with --pins DIR no configuration is needed")?;
            (settings.capture.pins, Some(settings.admin.socket))
        }
    };
    let removed = datapath::uninstall(&pins)?;
    let mut text: String = removed.iter().map(|what| format!("removed {what}\n")).collect();
    for kept in socket.iter().flat_map(|socket| left_beside(socket)) {
        match fs::remove_file(&kept) {
            Ok(()) => text += &format!("removed {}\n", kept.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("remove {}", kept.display()));
            }
        }
    }
    text += &match removed.len() {
        0 => format!("{} nothing is pinned under {}\n", Sign::Good, pins.display()),
        some => format!("{} uninstalled: {} removed\n", Sign::Good, unit::of(some, "object")),
    };
    print(&text)?;
    if args.stay {
        runtime()?.block_on(stopped());
    }
    Ok(Verdict::Yes)
}

/// Files of an agent that has ended.
fn left_beside(socket: &Path) -> impl Iterator<Item = PathBuf> {
    app::memories(socket).into_iter().chain([admin::lock(socket)])
}
