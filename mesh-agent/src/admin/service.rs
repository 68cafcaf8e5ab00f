//! A service, as the commands show it.

use serde::{Deserialize, Serialize};

use super::ReasonView;

/// `mesh-agent services`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    pub name: String,
    pub addresses: Vec<String>,
    pub hostnames: Vec<String>,
    pub ports: Vec<PortView>,
}

/// Counts are of both paths together, since the maps or the agent were new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    pub port: u16,
    pub protocol: String,
    /// `kernel` or `proxy`.
    pub path: String,
    /// Why it takes this path.
    pub why: String,
    pub on_agent_failure: String,
    pub algorithm: String,
    pub endpoints: u64,
    /// Of `endpoints`: those that are picked.
    pub available: u64,
    /// Too few are available: those that fail are used as well.
    pub panic: bool,
    /// The nearest first.
    pub tiers: Vec<TierView>,
    pub connections: u64,
    pub requests: u64,
    pub errors: u64,
    /// What limits of the policy refused, by reason; none where nothing was.
    #[serde(default)]
    pub limited: Vec<ReasonView>,
    /// What limits in dry run would have refused.
    #[serde(default)]
    pub dry_run: u64,
}

/// Instances of one rank: the same priority, and equally near.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierView {
    pub priority: u16,
    /// How many parts of cloud/region/zone/node they share with this node.
    pub near: u8,
    /// Of the picks, in percent.
    pub share: f64,
    /// Sums of weights: of those that are picked, and of all.
    pub available: u64,
    pub size: u64,
}
