//! An instance, as the commands show it.

use serde::{Deserialize, Serialize};

/// `mesh-agent endpoints`: one instance of one service port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    pub service: String,
    /// The service's port.
    pub port: u16,
    pub address: String,
    pub weight: u16,
    /// Empty where unknown.
    pub locality: String,
    pub state: EndpointState,
    pub in_flight: u64,
    /// To the first byte of a response, or the round trip on the kernel path;
    /// `None` before the first.
    pub response_time_us: Option<u64>,
    pub picks: u64,
    pub failures: u64,
    /// By clients, to the instance.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    Available,
    /// Taken out by hand.
    Drained,
    /// The configuration gives it no share.
    WeightZero,
}

impl EndpointState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Drained => "drained",
            Self::WeightZero => "weight 0",
        }
    }
}
