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
    /// Of the picks, in percent, by weight, tier and age. Where two candidates
    /// are compared, of the candidacies.
    pub share: f64,
    /// 0 is the nearest.
    pub tier: u16,
    /// Empty where unknown.
    pub locality: String,
    pub state: EndpointState,
    /// Why nothing new goes there, where nothing does.
    pub why: Option<String>,
    /// How long its exile still lasts.
    pub ejected_for_ms: Option<u64>,
    pub in_flight: u64,
    /// To the first byte of a response; on the kernel path to the first segment
    /// of an answer, where answers are timed, else the handshake. `None` before
    /// the first.
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
    /// It failed, and is left out for a time.
    Ejected,
    /// Its health check fails.
    Unhealthy,
    /// Taken out by hand.
    Drained,
    /// The configuration gives it no share.
    WeightZero,
}

impl EndpointState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
            Self::Drained => "drained",
            Self::WeightZero => "weight 0",
        }
    }
}
