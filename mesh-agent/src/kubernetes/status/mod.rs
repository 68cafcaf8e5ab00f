//! Statuses of resources: what they have to say (pure), and who writes it.

mod condition;
mod event;
mod writer;

pub use condition::wanted;
pub use writer::write;

/// Of Gateway API's statuses: who wrote an entry.
pub const CONTROLLER: &str = "mesh.dev/mesh-agent";
