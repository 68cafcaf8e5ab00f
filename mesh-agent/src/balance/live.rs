//! What is known of an instance from its traffic. Shared by all snapshots that
//! name the instance, and updated by whoever sends to it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Live data of one instance of one service port, on the proxy path.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests (HTTP) or connections (TCP) under way.
    pub in_flight: AtomicU32,
    /// Times that it was picked.
    pub picks: AtomicU64,
    /// Attempts that failed before the first byte of a response.
    pub failures: AtomicU64,
    /// Bytes that clients sent to it, and received from it.
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    /// Moving average of the time to the first byte of a response, ns; 0 before
    /// the first.
    response_ns: AtomicU64,
    /// Taken out by hand: `mesh-agent drain`.
    pub drained: AtomicBool,
    /// It answered an HTTP/2 preface with something else.
    pub http1_only: AtomicBool,
}

impl Live {
    /// Takes in a response time.
    pub fn observe(&self, sample: Duration) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX).max(1);
        let old = self.response_ns.load(Ordering::Relaxed);
        let new = if old == 0 { sample } else { old - old / 8 + sample / 8 };
        // Two workers may race; either sample alone is as true as both.
        self.response_ns.store(new, Ordering::Relaxed);
    }

    pub fn response_time(&self) -> Option<Duration> {
        match self.response_ns.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }
}
