//! A service: the virtual addresses that applications connect to, and what is
//! behind them.

use std::{borrow::Borrow, fmt, net::IpAddr, num::NonZeroU16, sync::Arc};

use super::{Instance, OnAgentFailure, PathChoice, Policy, Protocol, Route, Source};

/// Unique among services.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that maps by name are asked with a plain text.
impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A service as configured. No two services share an address and port of one
/// transport, or a hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    pub name: ServiceName,
    pub addresses: Vec<IpAddr>,
    /// Lower case, without the trailing dot.
    pub hostnames: Vec<String>,
    pub ports: Vec<Port>,
    /// Fits the protocol of every port (see [`PathChoice::resolve`]).
    pub path: PathChoice,
    pub on_agent_failure: OnAgentFailure,
    pub static_instances: Vec<Instance>,
    /// Their instances and the static ones make one pool.
    pub sources: Vec<Source>,
    /// Of its HTTP ports; in the order of the file.
    pub routes: Vec<Route>,
    pub policy: Arc<Policy>,
}

/// A port of a service; unique by port and transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub port: NonZeroU16,
    pub protocol: Protocol,
}
