//! A service and what is behind it.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    KubernetesSource, Locality, Policy, Several,
    route::Route,
    same::same,
    source::{DnsSource, HttpSource},
};
use crate::{
    config::text::{Hostname, Ip, Labels, Name},
    model,
};

/// A service: the virtual addresses that applications connect to, and what is behind them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Unique among services; commands, metrics and logs show it.
    #[schemars(required)]
    pub name: Option<Name>,
    /// The virtual address, or a list of them. Need not exist anywhere on the network.
    #[schemars(required)]
    pub address: Option<Several<Ip>>,
    /// Names that captured sockets resolve to the virtual addresses (see `dns`).
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub hostnames: Vec<Hostname>,
    /// Ports of the virtual addresses.
    #[schemars(required, length(min = 1, max = 1024))]
    pub ports: Option<Vec<Port>>,
    /// Who balances: the kernel per connection, or the agent per request.
    #[serde(default)]
    pub path: Path,
    /// What becomes of this service while no agent answers; the file's `onAgentFailure` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_agent_failure: Option<OnAgentFailure>,
    /// What is behind the service. Without any instance, connecting fails at once.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// Where its HTTP requests go; to its own instances unless a route says otherwise.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub routes: Vec<Route>,
    /// How its traffic is treated; `defaults.policy` is merged under it, key by key.
    #[serde(default)]
    pub policy: Policy,
}

/// A port of a service; unique by number and transport.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The port's number.
    #[schemars(required)]
    pub port: Option<NonZeroU16>,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP in the version that the client speaks.
    Http,
    /// HTTP/2 to the instances, whatever the client speaks.
    Http2,
    /// As `http2`.
    Grpc,
    /// Any protocol on TCP, balanced per connection.
    Tcp,
    /// Datagrams, on the kernel path only.
    Udp,
    /// Found out from the first bytes of each connection.
    Auto,
}

/// Who balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The kernel for `tcp` and `udp`, the agent for the other protocols.
    Auto,
    /// The kernel, once per connection.
    Kernel,
    /// The agent, per request or per connection; not for `udp`.
    Proxy,
}

/// What becomes of proxied services while no agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnAgentFailure {
    /// The kernel balances them.
    Open,
    /// They are refused: policy must not be bypassed.
    Closed,
}

/// Where instances come from; all sources make one pool.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Endpoints {
    /// Instances written down here.
    #[serde(rename = "static")]
    #[schemars(length(max = 65_536))]
    pub fixed: Vec<Endpoint>,
    /// Instances that a DNS server names; one lookup or a list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Several<DnsSource>>,
    /// Instances that an HTTP server lists; one or a list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Several<HttpSource>>,
    /// Instances that are behind a Service of Kubernetes; one or a list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Several<KubernetesSource>>,
}

/// An instance of a service.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Its own IP address, not a virtual one.
    #[schemars(required)]
    pub address: Option<Ip>,
    /// The service's port unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Share of the traffic, in proportion to the others'; 0 drains it.
    #[serde(default = "weight")]
    pub weight: u16,
    /// Where it is.
    #[serde(default)]
    pub locality: Locality,
    /// What routes select it by.
    #[serde(default)]
    pub labels: Labels,
}

impl Service {
    /// One with these ports and this policy, and nothing else.
    pub fn holding(policy: Policy, ports: &[model::Port], path: model::PathChoice) -> Self {
        let port =
            |port: &model::Port| Port { port: Some(port.port), protocol: port.protocol.into() };
        Self {
            name: None,
            address: None,
            hostnames: Vec::new(),
            ports: Some(ports.iter().map(port).collect()),
            path: path.into(),
            on_agent_failure: None,
            endpoints: Endpoints::default(),
            routes: Vec::new(),
            policy,
        }
    }
}

fn weight() -> u16 {
    model::Weight::default().0
}

same! {
    Protocol = Protocol { Http Http2 Grpc Tcp Udp Auto }
    Path = PathChoice { Auto Kernel Proxy }
    OnAgentFailure = OnAgentFailure { Open Closed }
}
