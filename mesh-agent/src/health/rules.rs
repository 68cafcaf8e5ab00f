//! When an instance is ejected, and for how long.

use std::time::Duration;

use crate::model::{Consecutive, Failover, Percent};

/// The part of `policy.failover` that ejection follows, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `false`: nothing is ejected.
    pub ejection: bool,
    pub consecutive: Consecutive,
    pub base: u64,
    pub max: u64,
    pub max_ejected: Percent,
}

impl From<&Failover> for Rules {
    fn from(failover: &Failover) -> Self {
        Self {
            ejection: failover.ejection,
            consecutive: failover.consecutive,
            base: nanoseconds(failover.base),
            max: nanoseconds(failover.max),
            max_ejected: failover.max_ejected,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
