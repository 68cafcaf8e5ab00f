//! The Kubernetes cluster that this node belongs to: watches what the mesh
//! needs of it, and translates that into services, sets of instances, pods and
//! captured namespaces.
//!
//! What was seen stays until the API server says otherwise: one that is gone,
//! refuses or talks nonsense takes nothing out of service. This module
//! publishes what stands and says that it changed; what becomes of it is for
//! others.

mod client;
mod cluster;
mod failure;
pub mod lease;
mod memory;
mod object;
pub mod pods;
pub mod policy;
mod request;
mod route;
mod state;
pub mod status;
mod store;
mod translate;
mod watch;
mod wire;

pub use client::ConnectError;
pub use cluster::{Absent, Changes, Cluster};
pub use memory::Memory;
pub use object::{
    CAPTURE_LABEL, Conditions, Distribution, Endpoint, Key, Meta, Namespace, Node, Pod, Resource,
    Service, ServiceKind, ServicePort, Slice, SlicePort, Watched, Workload,
};
pub use state::{Progress, WatchState, WatchStatus};
pub use watch::{Change, Selector, watch};
