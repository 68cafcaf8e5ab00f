//! What changes ask, and what came of them.

use serde::{Deserialize, Serialize};

/// `mesh-agent reload`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadOutcome {
    /// `false`: the file says what already serves.
    pub changed: bool,
    /// The generation that serves now.
    pub generation: u64,
    pub services: u64,
    /// Keys that take effect only after a restart, and were left as they are.
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    pub service: String,
    /// Address and port.
    pub endpoint: String,
    /// `false` takes it back in.
    pub drained: bool,
}

/// `mesh-agent drain`, `undrain`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainOutcome {
    pub service: String,
    pub endpoint: String,
    pub drained: bool,
    /// Requests and connections still under way on it.
    pub in_flight: u64,
    /// Instances of the service that are picked.
    pub available: u64,
}

/// `mesh-agent logs`: the filter asked for, or the one in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogLevel {
    pub filter: String,
}
