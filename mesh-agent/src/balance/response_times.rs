//! How often an instance took how long, in buckets that are a fifth apart.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Four for each power of two, from 1 µs to a minute; the last has what is longer.
const BUCKETS: usize = 104;

/// A histogram of response times. Costs nothing before the first.
#[derive(Debug, Default)]
pub struct ResponseTimes(OnceLock<Box<Counts>>);

#[derive(Debug)]
struct Counts {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl ResponseTimes {
    pub fn note(&self, took: Duration) {
        let counts = self.0.get_or_init(|| {
            let zero = || AtomicU64::new(0);
            Box::new(Counts { buckets: std::array::from_fn(|_| zero()), sum_us: zero() })
        });
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        counts.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The buckets that have any: the longest time in µs, and how many.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let counts = self.0.get().into_iter().flat_map(|counts| counts.buckets.iter().enumerate());
        let counts = counts.map(|(index, count)| (bound(index), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        let sum = self.0.get().map_or(0, |counts| counts.sum_us.load(Ordering::Relaxed));
        Duration::from_micros(sum)
    }
}

/// The first two bits below the highest one pick the quarter of its octave.
fn bucket(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) & 3;
    (((octave - 1) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The longest time in a bucket.
fn bound(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let (octave, quarter) = (index / 4 + 1, index as u64 % 4);
    ((quarter + 5) << (octave - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(bound(index)), index);
            assert_eq!(bucket(bound(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for index in 8..BUCKETS {
            let ratio = bound(index) as f64 / bound(index - 1) as f64;
            assert!(ratio < 1.36, "{index}: {ratio}");
        }
        assert!(bound(BUCKETS - 1) > 60_000_000);
    }

    #[test]
    fn what_is_noted_is_counted() {
        let times = ResponseTimes::default();
        assert!(times.counts().is_empty());
        for ms in [1, 1, 1000] {
            times.note(Duration::from_millis(ms));
        }
        assert_eq!(times.counts(), [(1023, 2), (1_048_575, 1)]);
        assert_eq!(times.sum(), Duration::from_millis(1002));
    }
}
