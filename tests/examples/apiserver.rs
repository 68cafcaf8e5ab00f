//! The tests' API server on its own, for kubectl: `apiserver FOLDER` writes
//! kubeconfigs there and serves until it is ended.

use std::{path::PathBuf, thread};

use anyhow::{Context as _, Result};
use mesh_tests::server::Kubernetes;

fn main() -> Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).context("usage: apiserver FOLDER")?.into();
    std::fs::create_dir_all(&folder)?;
    let kubernetes = Kubernetes::start_small(&folder)?;
    println!("admin: {}", kubernetes.admin_kubeconfig()?.display());
    println!("agent: {}", kubernetes.kubeconfig()?.display());
    loop {
        thread::park();
    }
}
