//! How a service's traffic is treated.

mod failover;
mod flow;
mod health_check;
mod load_balancer;
mod locality;
mod retry;
mod timeout;

pub use failover::{Failover, OnRemoval};
pub use flow::{AdaptiveConcurrency, Bandwidth, Connections, RateLimit};
pub use health_check::HealthCheck;
pub use load_balancer::{LoadBalancer, SessionAffinity, SlowStart};
pub use locality::LocalityPolicy;
pub use retry::Retry;
pub use timeout::Timeout;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{Several, Switch, section};
use crate::model;

/// What services get that don't say otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Merged under the policy of every service, key by key; a list replaces the other.
    pub policy: Policy,
}

section! {
    /// How the traffic of a service is treated.
    pub struct Policy {
        /// How the next instance is chosen: the algorithm's name, or a mapping with the key `algorithm`.
        load_balancer: LoadBalancer = LoadBalancer::Name(model::Policy::default().algorithm.into()),
        /// Keeps a client with the instance that it used last; off unless set.
        session_affinity: Switch<SessionAffinity>,
        /// New instances get their share little by little; off unless set. Those that return after a failure always do.
        slow_start: Switch<SlowStart>,
        /// Whether near instances come first.
        locality: LocalityPolicy,
        /// What happens when an instance fails.
        failover: Failover,
        /// Which answers are worth another attempt.
        retry: Retry,
        /// The agent asks each instance; off unless set.
        health_check: Switch<HealthCheck>,
        /// What becomes of live connections to an instance that was removed or ejected: `keep` lets them go on, `close` resets them at once, `drain: 30s` resets them after the time.
        on_removal: OnRemoval = "keep",
        /// How many requests are let through; off unless set. All limits of a list must let a request through.
        rate_limit: Switch<Several<RateLimit>>,
        /// Bytes per second; off unless set.
        bandwidth: Switch<Bandwidth>,
        /// Limits what is under way by the response time; off unless set, `{}` turns it on.
        adaptive_concurrency: Switch<AdaptiveConcurrency>,
        /// Circuit breaking; unlimited unless set.
        connections: Connections,
        /// How long things may take.
        timeout: Timeout,
        /// Payload between two captured pods of this node, and between them and the agent, goes from socket to socket, past TCP: nearly twice as fast. Not for applications that `splice` from sockets (docs/bypass.md). Needs a kernel that can, else all goes by TCP.
        bypass: bool = false,
    }
}

impl Policy {
    /// What stands here, and the model's defaults for the rest.
    pub fn model(&self) -> model::Policy {
        let fallback = model::Policy::default();
        let (algorithm, hash_on) = match &self.load_balancer {
            Some(balancer) => balancer.full().model(),
            None => (fallback.algorithm, fallback.hash_on),
        };
        model::Policy {
            algorithm,
            hash_on,
            session_affinity: on(&self.session_affinity).map(SessionAffinity::model),
            slow_start: on(&self.slow_start).map(SlowStart::model),
            locality: self.locality.as_ref().map_or(fallback.locality, LocalityPolicy::model),
            failover: self.failover.as_ref().map_or(fallback.failover, Failover::model),
            retry: self.retry.as_ref().map_or(fallback.retry, Retry::model),
            health_check: on(&self.health_check).map(HealthCheck::model),
            on_removal: self.on_removal.map_or(fallback.on_removal, OnRemoval::model),
            rate_limits: self.rate_limits().iter().filter_map(RateLimit::model).collect(),
            bandwidth: on(&self.bandwidth).map(Bandwidth::model),
            adaptive_concurrency: on(&self.adaptive_concurrency).map(AdaptiveConcurrency::model),
            connections: self.connections.as_ref().map_or(fallback.connections, Connections::model),
            bypass: self.bypass.unwrap_or(fallback.bypass),
            timeouts: self.timeout.as_ref().map_or(fallback.timeouts, Timeout::model),
            ports: fallback.ports,
        }
    }

    pub fn rate_limits(&self) -> &[RateLimit] {
        on(&self.rate_limit).map_or(&[], Several::as_slice)
    }
}

pub fn on<T>(section: &Option<Switch<T>>) -> Option<&T> {
    section.as_ref().and_then(Switch::on)
}
