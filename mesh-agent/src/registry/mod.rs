//! The one place that knows which instances stand behind which service now.
//!
//! A single task owns the state and publishes it whole, as an immutable
//! [`Snapshot`]; readers never wait and never see half a change.

mod build;
mod difference;
mod health;
mod index;
mod mirrored;
mod port;
mod snapshot;

pub use build::Registry;
pub use difference::Difference;
pub use mirrored::{Copied, Mirrored};
pub use snapshot::{
    Endpoint, PortKey, PortStats, Service, ServicePort, Snapshot, SnapshotReader, Subset,
};
