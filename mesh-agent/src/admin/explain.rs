//! What becomes of a connection to a destination, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::EndpointState;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainRequest {
    /// An IP address, or a hostname.
    pub address: String,
    pub port: u16,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The cgroup of the process that would connect, or its pod as
    /// `NAMESPACE/POD`; `None`: one that is captured.
    pub from: Option<String>,
}

impl ExplainRequest {
    /// The address, where it is one and not a hostname.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    /// The hostname in the form that services have theirs.
    pub fn hostname(&self) -> String {
        self.address.trim_end_matches('.').to_ascii_lowercase()
    }
}

/// `mesh-agent explain`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// As asked: address, port and transport.
    pub destination: String,
    /// `None`: it isn't one, or `from` isn't captured; `reason` says which.
    pub service: Option<String>,
    /// `kernel`, `proxy`, or `untouched`.
    pub path: String,
    /// Why this path.
    pub reason: String,
    pub protocol: Option<String>,
    pub algorithm: Option<String>,
    /// What the candidates' scores are, where two are compared by them.
    pub scored_by: Option<String>,
    pub candidates: Vec<Candidate>,
    /// Of its requests, in the order of the file; a service without has none.
    #[serde(default)]
    pub routes: Vec<ExplainedRoute>,
    /// What would happen to new connections if the agent died.
    pub agent_gone: String,
    /// What the agent answers to a query for the hostname; empty where it was
    /// an address, or where the query is forwarded.
    pub dns_answer: Vec<String>,
    /// The decision, step by step, for people.
    pub steps: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub address: String,
    pub weight: u16,
    /// Of the picks, in percent; of the candidacies, where two are compared.
    pub share: f64,
    /// 0 is the nearest.
    pub tier: u16,
    /// The lower of two wins.
    pub score: Option<f64>,
    pub state: EndpointState,
    /// Why it is in or out.
    pub why: String,
    /// It would be picked now; by `random`, none is.
    pub next: bool,
}

/// A route of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRoute {
    pub name: String,
    /// Which requests take it: any of these.
    pub requests: Vec<String>,
    /// What is done to them.
    pub actions: Vec<String>,
    /// Where they go; empty where they are redirected.
    pub backends: Vec<ExplainedBackend>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedBackend {
    pub service: String,
    pub port: u16,
    /// `version=v2`; empty where all instances will do.
    pub subset: Vec<String>,
    /// Of the route's requests, in percent.
    pub share: f64,
    /// That have the subset's labels.
    pub instances: usize,
    /// What is done to the requests that it gets, beside the route's actions.
    #[serde(default)]
    pub actions: Vec<String>,
}
