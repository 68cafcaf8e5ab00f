//! What is known of an instance from its traffic. Shared by all snapshots that
//! name the instance, and updated by whoever sends to it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use mesh_common::ewma::Ewma;
use tokio::time::Instant;

use super::{moment::nanos, response_times::ResponseTimes, slow_start};
use crate::model::SlowStart;

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
    /// Peak-EWMA of the time to the first byte of a response: its two words.
    response_ns: AtomicU64,
    response_at: AtomicU64,
    /// All of them, as a histogram.
    pub response_times: ResponseTimes,
    /// When it began to start slowly; 0 where it never did.
    started_at: AtomicU64,
    /// Taken out by hand: `mesh-agent drain`.
    pub drained: AtomicBool,
    /// It answered an HTTP/2 preface with something else.
    pub http1_only: AtomicBool,
}

/// What a failure counts as where nothing says how long to stay away.
const FAILURE: Duration = Duration::from_secs(5);

/// The longest `Retry-After` that is believed.
const MAX_PENALTY: Duration = Duration::from_secs(300);

impl Live {
    /// Takes in a response time.
    pub fn observe(&self, sample: Duration, now: Instant) {
        self.response_times.note(sample);
        self.take_in(sample, now);
    }

    /// Moves the average.
    fn take_in(&self, sample: Duration, now: Instant) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let before = self.average();
        let after = before.observe(sample, nanos(now));
        // Two workers may race; either sample alone is as true as both.
        if after != before {
            self.set_average(after);
        }
    }

    /// Takes in a failure, or an answer of 429 or 503, as if it had been very
    /// slow: an instance that fails fast must not look like the best one.
    /// `retry_after` is what the answer asked for.
    pub fn observe_failure(&self, retry_after: Option<Duration>, now: Instant) {
        self.take_in(retry_after.map_or(FAILURE, |after| after.clamp(FAILURE, MAX_PENALTY)), now);
    }

    /// Starts from this response time, whatever was known before.
    pub fn assume(&self, response: Duration, now: Instant) {
        self.set_average(Ewma::default());
        self.take_in(response, now);
    }

    /// The average as it is now: it fades while nothing is sent there. `None`
    /// where nothing is known.
    pub fn response_time(&self, now: Instant) -> Option<Duration> {
        match self.response_ns_at(nanos(now)) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// [`Self::response_time`] in numbers; 0 where nothing is known.
    pub(super) fn response_ns_at(&self, now_ns: u64) -> u64 {
        self.average().read(now_ns)
    }

    /// From now on it gets its share little by little.
    pub fn start_slowly(&self, now: Instant) {
        self.started_at.store(nanos(now), Ordering::Relaxed);
    }

    /// The part of its weight that it has now: 1 unless it starts slowly.
    pub fn warmth(&self, slow_start: &SlowStart, now_ns: u64) -> f64 {
        match self.started_at.load(Ordering::Relaxed) {
            0 => 1.0,
            at => slow_start::factor(slow_start, Duration::from_nanos(now_ns.saturating_sub(at))),
        }
    }

    /// [`Self::warmth`], for those who have a clock.
    pub fn warmth_at(&self, slow_start: &SlowStart, now: Instant) -> f64 {
        self.warmth(slow_start, nanos(now))
    }

    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    fn average(&self) -> Ewma {
        Ewma {
            value_ns: self.response_ns.load(Ordering::Relaxed),
            at_ns: self.response_at.load(Ordering::Relaxed),
        }
    }

    fn set_average(&self, average: Ewma) {
        self.response_ns.store(average.value_ns, Ordering::Relaxed);
        self.response_at.store(average.at_ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_instance_that_fails_fast_looks_slow_and_is_forgiven() {
        let (live, now) = (Live::default(), Instant::now());
        assert_eq!(live.response_time(now), None);
        live.observe(MS, now);
        live.observe_failure(None, now);
        assert_eq!(live.response_time(now), Some(FAILURE));
        live.observe_failure(Some(Duration::from_secs(3600)), now);
        assert_eq!(live.response_time(now), Some(MAX_PENALTY));
        live.assume(3 * MS, now);
        assert_eq!(live.response_time(now), Some(3 * MS));
        let faded = live.response_time(now + Duration::from_secs(10)).unwrap();
        assert!(faded > MS && faded < MS * 12 / 10, "{faded:?}");
    }

    #[test]
    fn the_share_of_a_new_instance_grows() {
        let (live, slow_start, start) = (Live::default(), SlowStart::default(), Instant::now());
        let after = |seconds| live.warmth(&slow_start, nanos(start + Duration::from_secs(seconds)));
        assert_eq!(after(0), 1.0);
        live.start_slowly(start);
        assert_eq!(after(0), 0.1);
        assert!((after(15) - 0.5).abs() < 0.001);
        assert_eq!(after(30), 1.0);
    }
}
