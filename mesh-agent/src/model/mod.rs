//! What the operator asked for, in types that can't hold anything illegal.
//!
//! `config` builds these from the file; everything above reads them. Nothing
//! in here does I/O, knows where a value came from, or checks it again.

mod algorithm;
mod failover;
mod flow;
mod instance;
mod kubernetes;
mod number;
mod path;
mod policy;
mod protocol;
mod route;
mod service;
mod settings;
mod shared;
mod source;

pub use algorithm::{Algorithm, HashOn, LocalityMode, LocalityPolicy, SlowStart};
pub use failover::{
    Backoff, Budget, Consecutive, Failover, FailoverMode, HealthCheck, OnRemoval, Probe, Retry,
    RetryOn,
};
pub use flow::{AdaptiveConcurrency, Bandwidth, ConnectionLimits, LimitBy, RateLimit};
pub use instance::{Instance, Locality, Serves, Weight};
pub use kubernetes::{Kubernetes, KubernetesPort, KubernetesServices, KubernetesSource};
pub use number::{Percent, Ratio};
pub use path::{Instances, OnAgentFailure, Path, PathChoice, PathConflict};
pub use policy::{Policy, Timeouts};
pub use protocol::{Protocol, Transport};
pub use route::{
    Filter, Fraction, HeaderChanges, HeaderMatch, Mirror, PathMatch, PathRewrite, QueryMatch,
    Redirect, Rewrite, Route, RouteBackend, RouteMatch, ValueMatch, whole,
};
pub use service::{Port, ServiceName, ServiceSpec};
pub use settings::{Admin, Capture, Dns, Limits, Settings};
pub use shared::{Labels, labels};
pub use source::{Discovered, DnsRecord, DnsSource, HttpFormat, HttpSource, Source};
