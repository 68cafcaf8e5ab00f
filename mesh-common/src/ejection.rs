//! For how long an instance that failed is left out, and how many may be.
//!
//! Times are nanoseconds, shares percent. The same functions run in the
//! `connect` hook and in the agent.

/// Longest doubling that is counted; the shift below stays legal with it.
const MOST: u32 = 63;

/// Whether an instance may be sent to, by its word `ejected_until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// In service.
    Open,
    /// In exile.
    Closed,
    /// The exile is over: whoever replaces the word by [`lease`] in one
    /// compare-exchange may send one connection or request, which decides.
    Probe,
}

/// Reads the word: 0 is in service, anything else the end of the exile.
#[inline(always)]
pub fn access(ejected_until: u64, now: u64) -> Access {
    if ejected_until == 0 {
        Access::Open
    } else if now < ejected_until {
        Access::Closed
    } else {
        Access::Probe
    }
}

/// The word of an instance that is being probed: closed to all others until
/// the probe has had its time; lost without a word, it is sent again then.
#[inline(always)]
pub fn lease(now: u64, patience: u64) -> u64 {
    let end = now.saturating_add(patience);
    // 0 would mean "in service".
    if end == 0 { 1 } else { end }
}

/// The exile after `times` exiles before it, without jitter:
/// base · 2^times, at most `max`.
#[inline(always)]
pub fn nominal(base: u64, max: u64, times: u32) -> u64 {
    let times = if times > MOST { MOST } else { times };
    if base >= max || base > max >> times { max } else { base << times }
}

/// [`nominal`], and by chance up to a tenth longer: what failed together must
/// not come back in step. 32 random bits.
#[inline(always)]
pub fn exile(base: u64, max: u64, times: u32, random: u32) -> u64 {
    let nominal = nominal(base, max, times);
    // Thousandths: a product with 32 bits would need 128.
    let share = (u64::from(random) * 101) >> 32;
    nominal.saturating_add((nominal / 1000).saturating_mul(share))
}

/// The count of exiles after one more. It stands still once the longest is
/// reached, so that forgiving doesn't have to undo more than it shows.
#[inline(always)]
pub fn more(base: u64, max: u64, times: u32) -> u32 {
    if times >= MOST || nominal(base, max, times) >= max { times } else { times + 1 }
}

/// The count of exiles after `good` nanoseconds in service: one less for every
/// time as long as the exile that raised it.
#[inline(always)]
pub fn forgiven(base: u64, max: u64, mut times: u32, mut good: u64) -> u32 {
    if times > MOST {
        times = MOST;
    }
    // Bounded, for the kernel's verifier.
    for _ in 0..MOST {
        if times == 0 {
            break;
        }
        let price = nominal(base, max, times - 1);
        if good < price {
            break;
        }
        good -= price;
        times -= 1;
    }
    times
}

/// How many of a tier of `size` may be out at a time: `percent` of it, rounded
/// down; but one of two or more always, unless `percent` is 0.
#[inline(always)]
pub fn allowed(size: u32, percent: u32) -> u32 {
    if percent == 0 {
        return 0;
    }
    let percent = if percent > 100 { 100 } else { percent };
    let share = (u64::from(size) * u64::from(percent) / 100) as u32;
    if share == 0 && size >= 2 { 1 } else { share }
}

/// Whether one more may go where `ejected` of `size` are out already.
#[inline(always)]
pub fn may_eject(size: u32, ejected: u32, percent: u32) -> bool {
    ejected < allowed(size, percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_word_opens_closes_and_asks_for_a_probe() {
        assert_eq!(access(0, 7), Access::Open);
        assert_eq!(access(8, 7), Access::Closed);
        assert_eq!(access(7, 7), Access::Probe);
        assert_eq!(access(lease(7, 5), 11), Access::Closed);
        assert_eq!(access(lease(7, 5), 12), Access::Probe);
        assert_ne!(lease(0, 0), 0);
    }

    #[test]
    fn exiles_double_up_to_the_longest() {
        let seconds = |times| nominal(5 * SECOND, 300 * SECOND, times) / SECOND;
        let exiles: [u64; 9] = core::array::from_fn(|times| seconds(times as u32));
        assert_eq!(exiles, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(seconds(u32::MAX), 300);
    }

    #[test]
    fn how_many_of_a_tier_may_go() {
        for (size, percent, expect) in [
            (0, 50, 0),
            (1, 50, 0),
            (1, 100, 1),
            (2, 50, 1),
            (2, 10, 1),
            (3, 50, 1),
            (4, 50, 2),
            (5, 50, 2),
            (10, 33, 3),
            (9, 100, 9),
            (9, 200, 9),
            (9, 0, 0),
        ] {
            assert_eq!(allowed(size, percent), expect, "{percent}% of {size}");
        }
        assert!(may_eject(3, 0, 50) && !may_eject(3, 1, 50));
    }

    #[test]
    fn good_time_is_rewarded_step_by_step() {
        let forgiven = |times, seconds| forgiven(5 * SECOND, 300 * SECOND, times, seconds * SECOND);
        assert_eq!(forgiven(0, 1000), 0);
        assert_eq!(forgiven(3, 19), 3);
        assert_eq!(forgiven(3, 20), 2);
        assert_eq!(forgiven(3, 30), 1);
        assert_eq!(forgiven(3, 35), 0);
    }

    proptest! {
        #[test]
        fn an_exile_is_what_its_formula_says(
            base in 1u64..1 << 40, max in 1u64..1 << 50, times in 0u32..100, random: u32,
        ) {
            let plain = (f64::from(times).exp2() * base as f64).min(max as f64) as u128;
            let got = u128::from(nominal(base, max, times));
            prop_assert_eq!(got, plain.min(u128::from(max)));
            let jittered = u128::from(exile(base, max, times, random));
            prop_assert!(jittered >= got && jittered * 10 <= got * 11);
        }

        #[test]
        fn nothing_overflows(base: u64, max: u64, times: u32, good: u64, random: u32, now: u64) {
            prop_assert!(nominal(base, max, times) <= max);
            prop_assert!(exile(base, max, times, random) >= nominal(base, max, times));
            prop_assert!(forgiven(base, max, times, good) <= times);
            prop_assert!(more(base, max, times) >= times);
            prop_assert!(lease(now, good) > 0);
        }

        #[test]
        fn the_count_stops_where_the_longest_is_reached(
            base in 1u64..1 << 40, max in 1u64..1 << 50, rounds in 0usize..100,
        ) {
            let mut times = 0;
            for _ in 0..rounds {
                times = more(base, max, times);
            }
            prop_assert!(times == 0 || nominal(base, max, times - 1) < max);
            // All of it is forgiven in less than twice the longest, and the price of the last.
            prop_assert_eq!(forgiven(base, max, times, max.saturating_mul(3)), 0);
        }

        #[test]
        fn a_tier_keeps_what_it_must(size in 0u32..10_000, percent in 0u32..=100) {
            let gone = (0..size).filter(|&ejected| may_eject(size, ejected, percent)).count() as f64;
            let share = f64::from(size) * f64::from(percent) / 100.0;
            if gone > share {
                prop_assert!(gone == 1.0 && size >= 2 && percent > 0);
            } else {
                prop_assert!(gone > share - 1.0);
            }
        }
    }
}
