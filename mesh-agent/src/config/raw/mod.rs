//! The file as the operator writes it, key by key. Only what is implemented
//! stands here: any other key is an error.
//!
//! The doc comments are the reference's and the JSON Schema's text, and the
//! defaults are the model's. Keys that must be there are `Option`s all the
//! same: one that is missing or wrong is reported by the check of the shape,
//! and the rest of its service is still checked.

mod filter;
mod kubernetes;
mod node;
mod policy;
mod route;
mod same;
mod section;
mod service;
mod source;

pub use filter::{Filters, Mirror};
pub use kubernetes::{Kubernetes, KubernetesSource};
pub use node::{Admin, Capture, Dns, Limits, Locality};
pub use policy::{
    AdaptiveConcurrency, Bandwidth, Defaults, Failover, HealthCheck, Policy, RateLimit, Retry, on,
};
pub use route::{HeaderMatch, QueryMatch, Route, RouteMatch};
pub use section::{Over, Several};
pub use service::{Endpoint, OnAgentFailure, Port, Service};
pub use source::{DnsSource, HttpSource};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One YAML file configures one agent. Unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(title = "mesh-agent configuration")]
pub struct File {
    /// Which sockets are captured, and how.
    pub capture: Capture,
    /// Where commands and scrapers reach the agent.
    pub admin: Admin,
    /// Answers to captured sockets that ask for services' hostnames.
    pub dns: Dns,
    /// What keeps one client from hurting the others.
    pub limits: Limits,
    /// Where this node is.
    pub locality: Locality,
    /// The Kubernetes cluster that this node belongs to.
    pub kubernetes: Kubernetes,
    /// What becomes of proxied services while no agent answers; a service may override it.
    pub on_agent_failure: OnAgentFailure,
    /// What services get that don't say otherwise.
    pub defaults: Defaults,
    /// The services that applications reach by virtual addresses.
    #[schemars(length(max = 65_536))]
    pub services: Vec<Service>,
}
