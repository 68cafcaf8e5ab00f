//! Asks what is behind services: DNS servers, and servers that hand out lists.
//!
//! Every source is a task of its own that asks, waits and asks again. What it
//! found last stays until it says otherwise: a source that fails, hangs or
//! talks nonsense takes nothing out of service. This module keeps the sets and
//! says that one has changed; what becomes of them is for others.

mod dns;
mod http;
mod memory;
mod progress;
mod schedule;
mod sockets;
mod status;
mod table;
mod task;

pub use memory::Memory;
pub use status::{SourceState, SourceStatus};
pub use table::{Discovery, Prepared};

use std::{future::Future, sync::Arc, time::Duration};

use crate::model::Instance;

/// A source names no more instances than this: the kernel's map of backends
/// holds sixteen times as many, for all service ports together.
const MAX_INSTANCES: usize = 16_384;

/// One source, asked once at a time.
trait Lookup: Send {
    /// Asks once. `current` is what stands of this source now.
    fn ask(&mut self, current: &Arc<[Instance]>) -> impl Future<Output = Outcome> + Send;
}

/// What came of asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    answer: Answer,
    /// How long to wait before asking again, before jitter. A failure is asked
    /// again by [`schedule::back_off`] instead.
    wait: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The whole set, see [`normalized`]; not empty.
    Instances {
        instances: Vec<Instance>,
        /// What went wrong beside it.
        trouble: Option<String>,
    },
    /// There is nothing behind the name.
    Empty,
    /// The last answer still holds.
    Unchanged,
    /// No answer, with the reason in words.
    Failed(String),
}

impl Outcome {
    fn failed(reason: impl Into<String>) -> Self {
        Self { answer: Answer::Failed(reason.into()), wait: Duration::ZERO }
    }

    /// What a source named, or that it named nothing.
    fn found(instances: Vec<Instance>, trouble: Option<String>, wait: Duration) -> Self {
        let instances = normalized(instances);
        if instances.len() > MAX_INSTANCES {
            return Self::failed(format!(
                "it names {} instances, and {MAX_INSTANCES} is the most: split the service",
                instances.len()
            ));
        }
        let answer = match instances.is_empty() {
            true => Answer::Empty,
            false => Answer::Instances { instances, trouble },
        };
        Self { answer, wait }
    }
}

/// In one order, each once: servers shuffle their answers, and a new order is
/// no change. Of two that differ in more than their address the one with the
/// better priority stays, then the first.
fn normalized(mut instances: Vec<Instance>) -> Vec<Instance> {
    instances.sort_by_key(|instance| (instance.address, instance.port, instance.priority));
    instances.dedup_by_key(|instance| (instance.address, instance.port));
    instances
}

/// Whether a connection can be made to this address at all: a source that says
/// otherwise is wrong, and not to be followed.
fn is_usable(address: std::net::IpAddr) -> bool {
    use std::net::{IpAddr, Ipv4Addr};
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4 == Ipv4Addr::BROADCAST),
        // Link-local means nothing without an interface.
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
fn instance(text: &str) -> Instance {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Instance {
        address: address.ip(),
        port: std::num::NonZeroU16::new(address.port()),
        serves: None,
        weight: crate::model::Weight(1),
        locality: Arc::default(),
        priority: 0,
        labels: Arc::default(),
    }
}
