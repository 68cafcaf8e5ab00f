//! How many requests an instance takes at a time, from its response times.
//!
//! After Envoy's adaptive concurrency filter and Netflix' `Gradient2Limit`:
//!
//! ```text
//! limit'   = gradient · limit + √limit
//! gradient = clamp(minRTT · (1 + buffer) / sampleRTT, 0.5, 2)
//! ```
//!
//! `sampleRTT` is the median of an interval. `minRTT` is the least median over
//! a sliding window, of samples that were taken while at most half of the limit
//! was under way: then nothing queues. Where an overload lasts for so long that
//! a whole window has no such sample, a minimum over what is there would drift
//! up with the queue, and the limit with it. Instead the limit *settles*: for
//! an interval or two (more where the instance has changed) it is `0.9 · minRTT / sampleRTT · limit`, without
//! headroom, until responses get no faster by it. Then nothing queues, and the
//! least median is the new minimum. That costs throughput while it lasts (in
//! simulation a limit of 45 for 64 workers), but isn't a fixed low limit.

use std::time::{Duration, Instant};

use super::{
    clock::{duration_nanos, nanos},
    minimum::WindowMinimum,
    samples::Samples,
};
use crate::model::AdaptiveConcurrency;

/// The rule for one instance. Plain: whoever shares it sees to that.
#[derive(Debug)]
pub struct Gradient {
    settings: AdaptiveConcurrency,
    limit: f64,
    /// Of the interval.
    samples: Samples,
    /// Of those, the ones that were taken while little was under way; kept
    /// until there are enough.
    quiet: Samples,
    /// The most that was under way in the interval.
    busiest: u32,
    minimum: WindowMinimum,
    /// The minimum in force, ns; 0 before the first.
    known: u64,
    /// When the known minimum was last confirmed, ns.
    confirmed: u64,
    settling: Option<Settling>,
    /// When the interval began, and the last sample came, ns.
    began: u64,
    last: u64,
}

/// The search for the response time without a queue, under an overload.
#[derive(Clone, Copy, Debug)]
struct Settling {
    intervals: u32,
    /// The least median so far, ns.
    least: u64,
}

/// The part of the limit that has to be under way at once, or it doesn't rise.
const USED: f64 = 0.9;
/// A search ends after this many intervals, whatever it found.
const SETTLING: u32 = 10;
/// Of the limit that would leave no queue; a little less leaves none for sure.
const SETTLED: f64 = 0.9;
/// A lower limit that doesn't make a response that much faster: nothing queued.
const IMPROVED: f64 = 0.98;

impl Gradient {
    /// The limit starts at its minimum, where nothing can queue yet.
    pub fn new(settings: AdaptiveConcurrency) -> Self {
        Self {
            limit: f64::from(settings.min.max(1)),
            samples: Samples::default(),
            quiet: Samples::default(),
            busiest: 0,
            minimum: WindowMinimum::new(duration_nanos(settings.window)),
            known: 0,
            confirmed: 0,
            settling: None,
            began: 0,
            last: 0,
            settings,
        }
    }

    pub fn settings(&self) -> &AdaptiveConcurrency {
        &self.settings
    }

    /// How many may be under way.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// The response time without a queue.
    pub fn min_rtt(&self) -> Option<Duration> {
        (self.known > 0).then(|| Duration::from_nanos(self.known))
    }

    /// Takes in a response time; `in_flight` were under way when the request
    /// was sent, itself included. What comes out is the limit from now on.
    pub fn sample(&mut self, rtt: Duration, in_flight: u32, now: Instant) -> u32 {
        let (rtt, now) = (duration_nanos(rtt).max(1), nanos(now));
        let window = duration_nanos(self.settings.window);
        if now.saturating_sub(self.last) > window {
            // Nothing came for long: no overload, and nothing known of now.
            self.samples.clear();
            self.quiet.clear();
            (self.confirmed, self.began, self.busiest) = (now, now, 0);
        }
        self.last = now;
        if self.settling.is_some() && now.saturating_sub(rtt) < self.began {
            // Sent under the limit before, it says nothing of this one.
            return self.limit();
        }
        self.samples.add(rtt);
        if f64::from(in_flight) <= (self.limit / 2.0).max(1.0) {
            self.quiet.add(rtt);
        }
        self.busiest = self.busiest.max(in_flight);
        let over = now.saturating_sub(self.began) >= duration_nanos(self.settings.interval);
        if over && self.samples.len() >= self.settings.min_samples.max(1) as usize {
            self.update(now);
        }
        self.limit()
    }

    /// A request has been under way for this long and has no answer: it counts
    /// where that alone is too slow, for what never answers would not.
    pub fn unanswered(&mut self, elapsed: Duration, in_flight: u32, now: Instant) -> u32 {
        if self.known > 0 && duration_nanos(elapsed) as f64 > self.known as f64 * self.buffered() {
            return self.sample(elapsed, in_flight, now);
        }
        self.limit()
    }

    fn buffered(&self) -> f64 {
        1.0 + self.settings.buffer.share()
    }

    fn update(&mut self, now: u64) {
        let median = self.samples.median();
        self.learn(median, now);
        let gradient = self.known as f64 / median as f64;
        let next = match self.settling {
            Some(_) => self.limit * (gradient * SETTLED).clamp(0.5, SETTLED),
            None => {
                let gradient = (gradient * self.buffered()).clamp(0.5, 2.0);
                let next = gradient * self.limit + self.limit.sqrt();
                // What isn't used says nothing about more of it; and all that is
                // allowed beyond the need is a queue, once an overload begins.
                let used = f64::from(self.busiest + 1) >= self.limit * USED;
                if used { next } else { next.min(self.limit) }
            }
        };
        let next = self.limit + self.settings.smoothing.factor() * (next - self.limit);
        let least = f64::from(self.settings.min.max(1));
        self.limit = next.clamp(least, f64::from(self.settings.max).max(least));
        self.samples.clear();
        (self.busiest, self.began) = (0, now);
    }

    /// Brings the minimum up to date.
    fn learn(&mut self, median: u64, now: u64) {
        if self.quiet.len() >= self.settings.min_samples.max(1) as usize {
            self.minimum.record(self.quiet.median(), now);
            self.quiet.clear();
            self.confirmed = now;
            self.settling = None;
        }
        if let Some(least) = self.minimum.get(now) {
            self.known = least;
        } else if self.known == 0 {
            (self.known, self.confirmed) = (median, now);
        }
        self.settle(median, now);
    }

    /// Begins the search, goes on with it or ends it.
    fn settle(&mut self, median: u64, now: u64) {
        let Some(settling) = &mut self.settling else {
            if now.saturating_sub(self.confirmed) > duration_nanos(self.settings.window) {
                self.settling = Some(Settling { intervals: 0, least: median });
            }
            return;
        };
        settling.intervals += 1;
        // As fast as it is known to be: nothing queues, and nothing has changed.
        let as_known = (median as f64 / self.known as f64 - 1.0).abs() < 1.0 - IMPROVED;
        let improved = (median as f64) < settling.least as f64 * IMPROVED && !as_known;
        settling.least = settling.least.min(median);
        let lowest = self.limit <= f64::from(self.settings.min.max(1));
        if !improved || lowest || settling.intervals >= SETTLING {
            let least = settling.least;
            self.minimum.record(least, now);
            (self.known, self.confirmed) = (least, now);
            self.settling = None;
        }
    }
}

#[cfg(test)]
#[path = "gradient_tests.rs"]
mod tests;
