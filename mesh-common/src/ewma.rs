//! Peak-EWMA: a moving average of times that believes bad news at once and
//! good news slowly (Finagle's `PeakEwma`, in integers).
//!
//! A sample above the average replaces it. A lower one is mixed in by how much
//! time has passed: `old · w + sample · (1 − w)` with `w = e^(−Δt/τ)`. Who only
//! reads sees the average decay towards zero by the same `w`, so that an
//! instance that was slow once, and has had no traffic since, is tried again.

/// How fast the past fades: after this time it counts for 1/e.
pub const TAU_NS: u64 = 10_000_000_000;

/// Faster samples count once in so long. Between two of a busy instance almost
/// no time passes; each would move the average by less than a nanosecond, which
/// integers can't show, and two cores would fight for the cache line.
pub const GRAIN_NS: u64 = TAU_NS / 1024;

/// Longer samples count as this: nine minutes, above every timeout.
pub const MAX_NS: u64 = (1 << 39) - 1;

/// One average. Both words are zero before the first sample.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ewma {
    pub value_ns: u64,
    /// When it was last changed, on a clock that never goes back.
    pub at_ns: u64,
}

impl Ewma {
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.value_ns == 0
    }

    /// The average after this sample. The same as before where a fast sample
    /// came too early to count.
    #[inline(always)]
    #[must_use]
    pub const fn observe(self, sample_ns: u64, now_ns: u64) -> Self {
        let sample = if sample_ns == 0 {
            1
        } else if sample_ns > MAX_NS {
            MAX_NS
        } else {
            sample_ns
        };
        if sample >= self.value_ns {
            return Self { value_ns: sample, at_ns: now_ns };
        }
        let elapsed = now_ns.saturating_sub(self.at_ns);
        if elapsed < GRAIN_NS {
            return self;
        }
        let above = decayed(self.value_ns - sample, elapsed);
        Self { value_ns: sample + above, at_ns: now_ns }
    }

    /// What it is worth now: 0 where nothing was seen, or long ago.
    #[inline(always)]
    pub const fn read(self, now_ns: u64) -> u64 {
        decayed(self.value_ns, now_ns.saturating_sub(self.at_ns))
    }
}

/// `value · e^(−elapsed/τ)`, rounded down. Right to two parts in 100,000.
#[inline(always)]
pub const fn decayed(value_ns: u64, elapsed_ns: u64) -> u64 {
    // e^(−t/τ) = 2^(−h) where h counts half-lives. After 40 of them nothing is
    // left of the longest sample.
    const GONE_NS: u64 = 28 * TAU_NS;
    if elapsed_ns >= GONE_NS {
        return 0;
    }
    let value = if value_ns > MAX_NS { MAX_NS } else { value_ns };
    // Half-lives in 1/2²⁴: elapsed · 2²⁴ · log₂e / τ. The product stays below 2⁵⁰.
    let half_lives = ((elapsed_ns >> 10) * 2_598_928) >> 20;
    let fraction = half_lives & (ONE - 1);
    ((value * two_to_minus(fraction)) >> 24) >> (half_lives >> 24)
}

/// 1.0 in the fixed point of this module.
const ONE: u64 = 1 << 24;

/// `2^(−f)` for f in 0..1: a straight line from 1 to ½, less a bend that is 0
/// at both ends and right in the middle. Nowhere off by more than 10⁻⁵.
#[inline(always)]
const fn two_to_minus(f: u64) -> u64 {
    let bend = 3_240_472 - ((781_399 * f) >> 24) + ((((114_991 * f) >> 24) * f) >> 24);
    ONE - f / 2 - ((((f * (ONE - f)) >> 24) * bend) >> 24)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    fn weight(elapsed_ns: u64) -> f64 {
        (-(elapsed_ns as f64) / TAU_NS as f64).exp()
    }

    /// The same rule in floating point.
    #[derive(Default)]
    struct Reference {
        value: f64,
        at: u64,
    }

    impl Reference {
        fn observe(&mut self, sample: u64, now: u64) {
            let sample = sample.clamp(1, MAX_NS) as f64;
            if sample >= self.value {
                (self.value, self.at) = (sample, now);
            } else if now - self.at >= GRAIN_NS {
                let w = weight(now - self.at);
                (self.value, self.at) = (self.value * w + sample * (1.0 - w), now);
            }
        }
    }

    #[test]
    fn bad_news_counts_at_once_and_good_news_slowly() {
        let average = Ewma::default().observe(MS, 0);
        assert_eq!(average.value_ns, MS);
        let slow = average.observe(20 * MS, SECOND);
        assert_eq!(slow.value_ns, 20 * MS);
        let after = slow.observe(MS, 2 * SECOND);
        assert_eq!(after.value_ns / 100_000, 181, "1 + 19 · e^(−0.1) = 18.19 ms");
        assert_eq!(slow.read(SECOND + TAU_NS) / 10_000, 735, "20 / e = 7.357 ms");
        assert_eq!(slow.read(u64::MAX), 0);
        assert_eq!(slow.read(0), 20 * MS, "a clock of another core may be behind");
    }

    #[test]
    fn fast_samples_of_a_busy_instance_still_bring_it_down() {
        // 100,000 a second, one after the other: as if there were one in 10 ms.
        let (mut average, mut exact) = (Ewma::default().observe(20 * MS, 0), Reference::default());
        exact.observe(20 * MS, 0);
        for n in 1..=1_000_000_u64 {
            average = average.observe(MS / 2, n * 10_000);
            exact.value = 0.5e6 + (exact.value - 0.5e6) * weight(10_000);
        }
        let off = (average.value_ns as f64 - exact.value).abs() / exact.value;
        assert!(off < 0.002, "{} against {}", average.value_ns, exact.value);
    }

    proptest! {
        #[test]
        fn decay_is_that_of_the_exponential(value in 0..=MAX_NS, elapsed in 0..30 * TAU_NS) {
            let exact = value as f64 * weight(elapsed);
            let got = decayed(value, elapsed) as f64;
            // 2e-5 of the value where much is left; whole nanoseconds where little is.
            prop_assert!((got - exact).abs() <= 2e-5 * exact + 2.0, "{got} for {exact}");
        }

        #[test]
        fn decay_never_rises(value in 0..=MAX_NS, elapsed in 0..30 * TAU_NS, more in 0..TAU_NS) {
            prop_assert!(decayed(value, elapsed + more) <= decayed(value, elapsed));
        }

        #[test]
        fn follows_the_reference(samples in prop::collection::vec((0u64..SECOND, 0u64..SECOND), 1..200)) {
            let (mut average, mut exact, mut now) = (Ewma::default(), Reference::default(), 0);
            for (sample, wait) in samples {
                now += wait;
                average = average.observe(sample, now);
                exact.observe(sample, now);
                let off = (average.value_ns as f64 - exact.value).abs();
                prop_assert!(off <= 1e-3 * exact.value + 200.0, "{} for {}", average.value_ns, exact.value);
            }
        }

        #[test]
        fn stays_between_the_samples(a in 1..MAX_NS, b in 1..MAX_NS, wait in 0..20 * TAU_NS) {
            let average = Ewma::default().observe(a, 0).observe(b, wait);
            prop_assert!(average.value_ns >= b && average.value_ns <= a.max(b));
        }

        #[test]
        fn nothing_overflows(value: u64, at: u64, sample: u64, now: u64) {
            let average = Ewma { value_ns: value, at_ns: at };
            prop_assert!(average.read(now) <= MAX_NS);
            prop_assert!(average.observe(sample, now).value_ns >= 1);
        }
    }
}
