//! Statuses of resources: what they have to say (pure), and who writes it.

mod condition;

pub use condition::wanted;

/// Of Gateway API's statuses: who wrote an entry.
pub const CONTROLLER: &str = "mesh.dev/mesh-agent";
