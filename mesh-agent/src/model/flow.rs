//! How much traffic is let through.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::{Percent, Ratio};

/// `rateLimit`: GCRA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub requests: u32,
    pub per: Duration,
    /// Above the even rate, at once.
    pub burst: u32,
    pub by: LimitBy,
    /// Counts what it would refuse, and refuses nothing.
    pub dry_run: bool,
}

impl RateLimit {
    /// Where the file says how many, but not in which time.
    pub const PER: Duration = Duration::from_secs(1);
}

impl RateLimit {
    /// How many a service may have: as many as the hooks hold.
    pub const MOST: usize = 4;
}

/// Whose traffic is added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum LimitBy {
    #[default]
    Service,
    /// The client's workload: its network namespace.
    Client,
    /// The value of this header, lower case; requests without it share one.
    Header(Arc<str>),
}

/// `bandwidth`, bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// From clients to instances.
    pub upload: Option<NonZeroU64>,
    pub download: Option<NonZeroU64>,
    /// `true`: each client's workload has its own.
    pub by_client: bool,
}

/// `adaptiveConcurrency`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// How far above the minimum the response time may be, in percent.
    pub buffer: Percent,
    pub min: u32,
    pub max: u32,
    /// How long the limit stands before it is computed again.
    pub interval: Duration,
    /// Over which the minimum of the response time is taken.
    pub window: Duration,
    /// Samples below this many don't change the limit.
    pub min_samples: u32,
    pub smoothing: Ratio,
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self {
            buffer: Percent(25),
            min: 3,
            max: 1000,
            interval: Duration::from_millis(100),
            window: Duration::from_secs(60),
            min_samples: 10,
            smoothing: Ratio::ONE,
        }
    }
}

/// `connections`: unlimited unless set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// To all instances together.
    pub max: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
}
