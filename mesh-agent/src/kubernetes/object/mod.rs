//! What is kept of Kubernetes' objects: the fields that something here reads,
//! and no others. A cluster's objects are large, and most of it is none of a
//! node's business.

mod key;
mod namespace;
mod node;
mod pod;
mod service;
mod slice;
mod watched;

pub use key::Key;
pub use namespace::{CAPTURE_LABEL, Namespace};
pub use node::Node;
pub use pod::{Pod, Workload};
pub use service::{Distribution, Service, ServiceKind, ServicePort};
pub use slice::{Conditions, Endpoint, Slice, SlicePort};
pub use watched::{Meta, Resource, Watched};

use crate::model::Transport;

/// The transport that Kubernetes calls so; TCP where it says nothing, `None`
/// for what the mesh doesn't carry (SCTP).
fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol {
        None | Some("" | "TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some(_) => None,
    }
}
