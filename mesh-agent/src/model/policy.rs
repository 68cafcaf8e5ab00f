//! How a service's traffic is treated.

use std::time::Duration;

use super::Algorithm;

/// `policy` of a service, with `defaults.policy` already merged under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub algorithm: Algorithm,
    pub timeouts: Timeouts,
}

/// `policy.timeout`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For each attempt to connect to an instance.
    pub connect: Duration,
    /// From the whole request head to the whole response; none unless set.
    pub request: Option<Duration>,
    /// A connection on which nothing moves, in either direction, is closed.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            request: None,
            // Longer than the keep-alive of any common client or database, so
            // that the agent isn't the one that closes.
            idle: Duration::from_secs(3600),
        }
    }
}
