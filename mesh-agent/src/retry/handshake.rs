//! How long connecting takes, and may take.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::model::Timeouts;

/// Of a generation; two are looked at, so that 30 to 60 seconds count.
const GENERATION: u64 = 30_000_000_000;

/// Fewer say nothing about the 99th percentile.
const ENOUGH: u32 = 20;

/// Bucket `i` ends at 16 µs · 2^(i/4): the last at 4 s.
const BUCKETS: usize = 72;
const FIRST_US: f64 = 16.0;

/// Handshakes of a service port: a histogram of the recent ones. Shared by all
/// workers; at the turn of a generation a few counts may be lost.
/// Most services of a node are never called from it: those have none.
#[derive(Debug, Default)]
pub struct Handshakes(OnceLock<Box<[Generation; 2]>>);

#[derive(Debug)]
struct Generation {
    number: AtomicU64,
    buckets: [AtomicU32; BUCKETS],
}

impl Default for Generation {
    fn default() -> Self {
        Self { number: AtomicU64::new(u64::MAX), buckets: [const { AtomicU32::new(0) }; BUCKETS] }
    }
}

impl Handshakes {
    /// Counts one that took this long. `now` is in nanoseconds.
    pub fn observe(&self, took: Duration, now: u64) {
        let number = now / GENERATION;
        let generation = &self.0.get_or_init(Box::default)[(number % 2) as usize];
        let before = generation.number.load(Ordering::Relaxed);
        if before != number
            && (generation.number)
                .compare_exchange(before, number, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            generation.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        }
        generation.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The 99th percentile of the recent ones, rounded up to the end of its
    /// bucket, at most a fifth too high; `None` where too few are known.
    pub fn p99(&self, now: u64) -> Option<Duration> {
        let number = now / GENERATION;
        let recent = |generation: &&Generation| {
            let of = generation.number.load(Ordering::Relaxed);
            of <= number && of + 1 >= number
        };
        let recent: Vec<_> = self.0.get()?.iter().filter(recent).collect();
        let count = |index: usize| -> u32 {
            recent.iter().map(|one| one.buckets[index].load(Ordering::Relaxed)).sum()
        };
        let total: u32 = (0..BUCKETS).map(count).sum();
        if total < ENOUGH {
            return None;
        }
        let mut above = total / 100;
        for index in (0..BUCKETS).rev() {
            match above.checked_sub(count(index)) {
                Some(left) => above = left,
                None => return Some(end(index)),
            }
        }
        None
    }
}

fn bucket(took: Duration) -> usize {
    let ratio = took.as_secs_f64() * 1e6 / FIRST_US;
    // Below the first bucket's end the logarithm is negative, or infinite.
    ((ratio.log2() * 4.0).ceil().max(0.0) as usize).min(BUCKETS - 1)
}

fn end(bucket: usize) -> Duration {
    Duration::from_secs_f64(FIRST_US * (bucket as f64 / 4.0).exp2() / 1e6)
}

/// How long one attempt to connect may take: as set, or four times the 99th
/// percentile of recent handshakes within [`Timeouts::CONNECT_RANGE`].
///
/// `own` is the slowest recent handshake with this very instance. Where there
/// is none, the percentile of the others says nothing about it, and it gets the
/// longest: an instance in another cloud must not be judged by those next door.
pub fn connect_timeout(
    timeouts: &Timeouts,
    p99: Option<Duration>,
    own: Option<Duration>,
) -> Duration {
    let (shortest, longest) = Timeouts::CONNECT_RANGE;
    match (timeouts.connect, p99, own) {
        (Some(set), ..) => set,
        (None, Some(p99), Some(own)) => (p99.max(own) * 4).clamp(shortest, longest),
        _ => longest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_timeout_follows_the_handshakes() {
        let timeouts = Timeouts::default();
        let timeout = |p99, own| connect_timeout(&timeouts, p99, own);
        assert_eq!(timeout(None, None), 1000 * MS);
        assert_eq!(timeout(Some(MS), None), 1000 * MS);
        assert_eq!(timeout(Some(MS), Some(MS)), 100 * MS);
        assert_eq!(timeout(Some(50 * MS), Some(MS)), 200 * MS);
        assert_eq!(timeout(Some(MS), Some(60 * MS)), 240 * MS);
        assert_eq!(timeout(Some(900 * MS), Some(MS)), 1000 * MS);
        let set = Timeouts { connect: Some(7 * MS), ..timeouts };
        assert_eq!(connect_timeout(&set, Some(MS), Some(MS)), 7 * MS);
    }

    #[test]
    fn old_handshakes_are_forgotten() {
        let handshakes = Handshakes::default();
        for _ in 0..ENOUGH {
            handshakes.observe(20 * MS, 3 * GENERATION);
        }
        assert!(handshakes.p99(4 * GENERATION).is_some());
        assert_eq!(handshakes.p99(5 * GENERATION), None);
        assert_eq!(handshakes.p99(0), None);
    }

    proptest! {
        #[test]
        fn the_percentile_is_that_of_a_sorted_list(
            mut microseconds in prop::collection::vec(1u64..3_000_000, 20..400),
        ) {
            let handshakes = Handshakes::default();
            for &one in &microseconds {
                handshakes.observe(Duration::from_micros(one), GENERATION);
            }
            microseconds.sort_unstable();
            let exact = microseconds[microseconds.len() - 1 - microseconds.len() / 100] as f64;
            let got = handshakes.p99(GENERATION).unwrap().as_secs_f64() * 1e6;
            prop_assert!(got >= exact * 0.999 && got <= (exact * 1.2).max(FIRST_US), "{got} for {exact}");
        }
    }
}
