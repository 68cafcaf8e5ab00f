//! Why a request or connection wasn't let through, and how often.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Counted, OverRate};

/// What stopped a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("over the limit of policy.rateLimit")]
    Rate(OverRate),
    /// All instances are at the limit of `adaptiveConcurrency`.
    #[error("all instances are at their limit of concurrent requests")]
    Concurrency,
    #[error("over policy.connections.max")]
    Connections,
    #[error("over policy.connections.maxPending")]
    Pending,
    #[error("over policy.connections.maxRequests")]
    Requests,
}

impl Refusal {
    /// As `x-mesh-error`, metrics and commands call it.
    pub const fn name(&self) -> &'static str {
        REASONS[self.index()]
    }

    /// When another try makes sense.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Rate(over) => over.retry_after,
            // A limit is computed anew several times in a second.
            _ => Duration::from_secs(1),
        }
    }

    const fn index(&self) -> usize {
        match self {
            Self::Rate(_) => 0,
            Self::Concurrency => 1,
            Self::Connections => 2,
            Self::Pending => 3,
            Self::Requests => 4,
        }
    }
}

impl From<Counted> for Refusal {
    fn from(counted: Counted) -> Self {
        match counted {
            Counted::Connections => Self::Connections,
            Counted::Pending => Self::Pending,
            Counted::Requests => Self::Requests,
        }
    }
}

const REASONS: [&str; 5] =
    ["rate-limited", "overloaded", "connection-limit", "pending-limit", "request-limit"];

/// Refusals of a service port since it is known.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; REASONS.len()],
    /// By limits in dry run: what would have been refused.
    dry_run: AtomicU64,
}

impl Refusals {
    pub fn add(&self, refusal: &Refusal) {
        self.counts[refusal.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_dry_run(&self) {
        self.dry_run.fetch_add(1, Ordering::Relaxed);
    }

    /// Each reason with its count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.iter().copied().zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    pub fn total(&self) -> u64 {
        self.each().map(|(_, count)| count).sum()
    }

    pub fn dry_run(&self) -> u64 {
        self.dry_run.load(Ordering::Relaxed)
    }
}
