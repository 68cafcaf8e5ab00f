//! What goes by, as those who watch get it: one line of JSON each.

use serde::{Deserialize, Serialize};

use super::Who;
use crate::tap::{Ended, Event, Kind, Via};

/// A line of `mesh-agent tap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TapLine {
    Event(Box<TapEvent>),
    /// That many events were lost, because they weren't taken fast enough.
    Lost {
        lost: u64,
    },
}

/// A request or connection that ended, or began. What isn't known, or doesn't
/// apply, is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapEvent {
    /// RFC 3339, in UTC.
    pub time: String,
    pub event: Event,
    pub kind: Kind,
    /// The path through the mesh.
    pub via: Via,
    /// The client's address.
    pub client: Option<String>,
    pub who: Who,
    pub service: Option<String>,
    /// What the client asked for.
    pub destination: String,
    pub instance: Option<String>,
    pub protocol: String,
    pub method: Option<String>,
    /// The host that was asked for.
    pub authority: Option<String>,
    /// Of the request, with its query.
    pub path: Option<String>,
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    pub ended: Option<Ended>,
    /// Why it was refused, or failed.
    pub why: Option<String>,
    pub duration_us: Option<u64>,
    /// Until the answer began.
    pub first_byte_us: Option<u64>,
    /// On the kernel path.
    pub rtt_us: Option<u64>,
    /// By the client, and to it: of a request, the bodies.
    pub bytes_sent: Option<u64>,
    pub bytes_received: Option<u64>,
    /// Instances that were tried.
    pub attempts: Option<u32>,
    /// That a connection carried.
    pub requests: Option<u64>,
}
