//! The agent's own interface: what the commands ask, over a unix socket, and
//! what monitoring scrapes, over TCP.
//!
//! The types in here are an API: their JSON keys are camelCase and stay (tests
//! pin them). Everything that changes something goes through the unix socket,
//! whose file only its owner may open; the TCP side answers `/metrics`,
//! `/healthz` and `/readyz` and nothing else.

mod client;
mod connection;
mod control;
mod endpoint;
mod explain;
mod outcome;
mod routes;
#[cfg(test)]
pub(crate) mod sample;
mod server;
mod service;
mod socket;
mod status;
mod tap;
mod traffic;

pub use client::{Client, ClientError, TapStream, Unreachable};
pub use connection::{ConnectionView, PodView, Who};
pub use control::{Control, ControlError};
pub use endpoint::{EndpointState, EndpointView};
pub use explain::{Candidate, ExplainRequest, ExplainedBackend, ExplainedRoute, Explanation};
pub use outcome::{DrainOutcome, DrainRequest, LogLevel, ReloadOutcome};
pub use server::{serve_http, serve_socket};
pub use service::{PortView, ServiceView, TierView};
pub use socket::{AdminSocket, SocketError, lock};
pub use status::{
    AgentState, DnsView, Generations, HookView, MapView, NamespaceView, ReasonView, ReloadView,
    SourceState, SourceView, Status, UnreadableView, WatchState, WatchView,
};
pub use tap::{TapEvent, TapLine};
pub use traffic::{InstanceTraffic, PortTraffic, Traffic, quantile};
