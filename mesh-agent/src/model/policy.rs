//! How a service's traffic is treated.

use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc, time::Duration};

use super::{
    AdaptiveConcurrency, Algorithm, Bandwidth, ConnectionLimits, Failover, HashOn, HealthCheck,
    LocalityPolicy, OnRemoval, RateLimit, Retry, SlowStart, Transport,
};

/// `policy` of a service, with `defaults.policy` already merged under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub algorithm: Algorithm,
    pub hash_on: HashOn,
    /// A client keeps its instance until it has been silent for this long.
    pub session_affinity: Option<Duration>,
    /// Of new instances; those that return from exile always start slowly.
    pub slow_start: Option<SlowStart>,
    pub locality: LocalityPolicy,
    pub failover: Failover,
    pub retry: Retry,
    pub health_check: Option<HealthCheck>,
    pub on_removal: OnRemoval,
    /// All must let a request through.
    pub rate_limits: Vec<RateLimit>,
    pub bandwidth: Option<Bandwidth>,
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    pub connections: ConnectionLimits,
    pub timeouts: Timeouts,
    /// Between two captured pods of this node payload may go past TCP.
    pub bypass: bool,
    /// Of single ports, where it isn't this one.
    pub ports: BTreeMap<(NonZeroU16, Transport), Arc<Policy>>,
}

impl Policy {
    /// What holds for this port.
    pub fn of(&self, port: NonZeroU16, transport: Transport) -> &Self {
        self.ports.get(&(port, transport)).map_or(self, |own| own)
    }

    /// As Kubernetes', where `sessionAffinity` names no other.
    pub const AFFINITY: Duration = Duration::from_secs(3 * 3600);

    /// It bounds what instances send, which no client's socket can hold back.
    pub fn paces_instances(&self) -> bool {
        self.bandwidth.is_some_and(|bandwidth| bandwidth.download.is_some())
    }
}

/// `policy.timeout`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For each attempt to connect to an instance. Where `None`: four times the
    /// 99th percentile of recent handshakes, within [`Self::CONNECT_RANGE`].
    pub connect: Option<Duration>,
    /// From the whole request head to the whole response; none unless set.
    pub request: Option<Duration>,
    /// A connection on which nothing moves, in either direction, is closed.
    pub idle: Duration,
}

impl Timeouts {
    /// What an adaptive connect timeout keeps to; its end is the timeout while
    /// nothing is known.
    pub const CONNECT_RANGE: (Duration, Duration) =
        (Duration::from_millis(100), Duration::from_secs(1));

    /// How long data may stay unacknowledged on the kernel path before its
    /// connection is given up: longer than a network takes to find another way.
    pub const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

    /// As set, or the longest that is chosen by itself.
    pub fn connect_at_most(&self) -> Duration {
        self.connect.unwrap_or(Self::CONNECT_RANGE.1)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: None,
            request: None,
            // Longer than the keep-alive of any common client or database, so
            // that the agent isn't the one that closes.
            idle: Duration::from_secs(3600),
        }
    }
}
