//! Constructs the components, connects them, and ends them: the only place
//! that knows them all.

mod access;
mod adaptive;
mod agent;
mod candidates;
mod captured;
mod compose;
mod connections;
mod control;
mod descriptors;
mod discovery;
mod explain;
mod explicit;
mod health;
mod kernel;
mod kubernetes;
mod limits;
mod metrics;
mod namespaces;
mod pods;
mod pulse;
mod reconcile;
mod reload;
mod removal;
mod resident;
mod routes;
mod run;
mod tap;
mod traffic;
mod views;
mod watch;
mod watches;

pub use run::{RunOptions, run};

use std::path::{Path, PathBuf};

/// The files beside the admin socket that outlive the agent.
pub fn memories(socket: &Path) -> [PathBuf; 2] {
    [kubernetes::memory(socket), discovery::memory(socket)]
}
