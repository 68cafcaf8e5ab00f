//! The tests' API server on its own, for kubectl: prints the paths of its
//! kubeconfigs and serves until its input ends. Where `KUBEBUILDER_ASSETS` is
//! set it is a real one.

use std::io::{Read as _, stdin};

use anyhow::Result;
use mesh_tests::{World, server::Kubernetes};

fn main() -> Result<()> {
    let world = World::beside_the_tests("apiserver")?;
    let kubernetes = Kubernetes::start(&world)?;
    println!("admin: {}", kubernetes.admin_kubeconfig()?.display());
    println!("agent: {}", kubernetes.kubeconfig()?.display());
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
