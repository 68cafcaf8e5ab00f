//! How many pass per time: the generic cell rate algorithm (ITU-T I.371,
//! virtual scheduling).
//!
//! The whole state is one `u64`, the theoretical arrival time: when the next
//! one would be due if all came evenly. One word can be replaced by one
//! compare-exchange, in the kernel and in the agent, and nothing has to be
//! refilled by a timer. A state of 0 has seen nothing yet.

/// A rate, as the algorithm needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two that come evenly, ns; at least 1.
    pub interval: u64,
    /// How much too early one may come, ns.
    pub tolerance: u64,
}

/// What becomes of one arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes, if the state is replaced by this.
    Allowed { tat: u64 },
    /// It doesn't. The state stays as it is.
    Refused {
        /// Until one passes, ns; 1 to [`Rate::interval`].
        wait: u64,
    },
}

impl Rate {
    /// `requests` in `per` nanoseconds, `burst` of them at once after silence;
    /// a burst of 0 is one of 1, for one at a time always passes.
    pub const fn new(requests: u32, per: u64, burst: u32) -> Self {
        let requests = if requests == 0 { 1 } else { requests as u64 };
        let interval = if per < requests { 1 } else { per / requests };
        let early = if burst == 0 { 0 } else { burst as u64 - 1 };
        Self { interval, tolerance: interval.saturating_mul(early) }
    }

    /// Whether one that arrives now passes.
    #[inline(always)]
    pub const fn decide(&self, tat: u64, now: u64) -> Decision {
        decide(tat, now, self.interval, self.tolerance)
    }

    /// How many would still pass at once.
    pub const fn remaining(&self, tat: u64, now: u64) -> u64 {
        let debt = tat.saturating_sub(now);
        if debt > self.tolerance { 0 } else { (self.tolerance - debt) / self.interval + 1 }
    }
}

/// Whether one that arrives now passes: it may be `tolerance` early.
///
/// ```text
/// allowed  where  tat − now ≤ tolerance,  then  tat' = max(tat, now) + interval
/// ```
///
/// Of a rate of 100 per second (interval 10 ms) and a burst of 20 (tolerance
/// 190 ms), 20 pass at once and 100 in each second that follows.
#[inline(always)]
pub const fn decide(tat: u64, now: u64, interval: u64, tolerance: u64) -> Decision {
    let mut debt = tat.saturating_sub(now);
    // Nothing that this rate has let through leaves more behind. More than
    // that is of a slower rate that was in force before, or of a clock that
    // was ahead: nobody is kept out for it.
    let most = tolerance.saturating_add(interval);
    if debt > most {
        debt = most;
    }
    if debt > tolerance {
        return Decision::Refused { wait: debt - tolerance };
    }
    Decision::Allowed { tat: now.saturating_add(debt).saturating_add(interval) }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The same rule as a bucket that leaks, in exact fractions: it holds
    /// `burst`, each that passes fills it by one, and it leaks one in
    /// `interval`. Levels are in units of 1 / interval.
    struct Bucket {
        level: u128,
        last: u64,
    }

    impl Bucket {
        fn passes(&mut self, now: u64, rate: &Rate) -> bool {
            let leaked = u128::from(now - self.last);
            self.last = now;
            self.level = self.level.saturating_sub(leaked);
            if self.level > u128::from(rate.tolerance) {
                return false;
            }
            self.level += u128::from(rate.interval);
            true
        }
    }

    fn passed(rate: &Rate, arrivals: impl Iterator<Item = u64>) -> usize {
        let mut state = 0;
        let mut passed = 0;
        for now in arrivals {
            if let Decision::Allowed { tat } = rate.decide(state, now) {
                state = tat;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_hundred_per_second_and_twenty_at_once_are_1020_in_ten_seconds() {
        let rate = Rate::new(100, SECOND, 20);
        // Ten thousand per second, in step with the rate or not.
        for (start, step) in [(0, 100_000), (7 * SECOND + 13, 100_000), (SECOND, 99_991)] {
            let arrivals =
                (0..).map(|n| start + n * step).take_while(|now| *now < start + 10 * SECOND);
            let passed = passed(&rate, arrivals);
            assert!((1019..=1020).contains(&passed), "{passed}");
        }
    }

    #[test]
    fn the_burst_passes_at_once_and_is_back_after_silence() {
        let rate = Rate::new(100, SECOND, 20);
        assert_eq!(passed(&rate, std::iter::repeat_n(SECOND, 1000)), 20);
        let twice = std::iter::repeat_n(SECOND, 1000).chain(std::iter::repeat_n(2 * SECOND, 1000));
        assert_eq!(passed(&rate, twice), 40);
    }

    #[test]
    fn rates_without_sense_are_still_rates() {
        assert_eq!(Rate::new(0, SECOND, 0), Rate { interval: SECOND, tolerance: 0 });
        assert_eq!(Rate::new(u32::MAX, SECOND, 1), Rate { interval: 1, tolerance: 0 });
        assert_eq!(Rate::new(1, u64::MAX, u32::MAX).tolerance, u64::MAX);
        assert_eq!(Rate::new(1, SECOND, 1).remaining(0, SECOND), 1);
        assert_eq!(Rate::new(1, SECOND, 1).decide(0, 0), Decision::Allowed { tat: SECOND });
    }

    #[test]
    fn a_state_of_a_slower_rate_keeps_nobody_out_for_longer_than_one_interval() {
        let rate = Rate::new(100, SECOND, 20);
        assert_eq!(rate.decide(3600 * SECOND, SECOND), Decision::Refused { wait: rate.interval });
    }

    proptest! {
        #[test]
        fn it_is_the_leaking_bucket(
            requests in 1..10_000u32,
            per in prop_oneof![Just(SECOND), Just(60 * SECOND), 1_000..100 * SECOND],
            burst in 0..100u32,
            start in 0..u64::MAX / 4,
            gaps in prop::collection::vec(prop_oneof![0..1_000u64, 0..SECOND], 1..500),
        ) {
            let rate = Rate::new(requests, per, burst);
            let mut bucket = Bucket { level: 0, last: start };
            let (mut state, mut now) = (0, start);
            for gap in gaps {
                now += gap;
                let remaining = rate.remaining(state, now);
                match rate.decide(state, now) {
                    Decision::Allowed { tat } => {
                        prop_assert!(bucket.passes(now, &rate));
                        prop_assert!(remaining > 0);
                        prop_assert_eq!(rate.remaining(tat, now), remaining - 1);
                        state = tat;
                    }
                    Decision::Refused { wait } => {
                        prop_assert!(!bucket.passes(now, &rate));
                        prop_assert_eq!(remaining, 0);
                        prop_assert!((1..=rate.interval).contains(&wait));
                        // The time that is named is exact.
                        let early = matches!(
                            rate.decide(state, now + wait - 1), Decision::Refused { .. });
                        let due = matches!(
                            rate.decide(state, now + wait), Decision::Allowed { .. });
                        prop_assert!(early && due);
                    }
                }
            }
        }

        /// Whatever the arrivals are, no span of time lets through more than
        /// its share and one burst.
        #[test]
        fn no_span_passes_more_than_its_share_and_one_burst(
            requests in 1..1_000u32,
            burst in 1..50u32,
            gaps in prop::collection::vec(0..20_000_000u64, 1..400),
        ) {
            let rate = Rate::new(requests, SECOND, burst);
            let (mut state, mut now) = (0, SECOND);
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                if let Decision::Allowed { tat } = rate.decide(state, now) {
                    state = tat;
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let share = (to - from) / rate.interval;
                    prop_assert!((last - first + 1) as u64 <= share + u64::from(burst));
                }
            }
        }

        #[test]
        fn no_numbers_break_it(tat: u64, now: u64, interval in 1..u64::MAX, tolerance: u64) {
            let rate = Rate { interval, tolerance };
            let _ = (rate.decide(tat, now), rate.remaining(tat, now));
        }
    }
}
