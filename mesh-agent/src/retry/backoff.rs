//! How long to wait before another attempt.

use std::time::Duration;

use crate::model::Backoff;

/// Full jitter ("Exponential Backoff and Jitter", AWS Architecture Blog 2015):
/// by chance between nothing and base · 2^`retry`, at most `max`. `retry` is 0
/// for the first attempt after the first; `random` is 32 random bits.
pub fn delay(backoff: &Backoff, retry: u32, random: u32) -> Duration {
    let factor = 1_u32.checked_shl(retry).unwrap_or(u32::MAX);
    let longest = backoff.base.saturating_mul(factor).min(backoff.max);
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) };

    #[test]
    fn the_longest_delay_doubles_up_to_the_maximum() {
        let longest: Vec<_> =
            (0..6).map(|retry| delay(&BACKOFF, retry, u32::MAX).as_millis()).collect();
        assert_eq!(longest, [25, 50, 100, 200, 250, 250]);
        assert_eq!(delay(&BACKOFF, 3, 0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn never_longer_than_the_maximum(retry: u32, random: u32) {
            prop_assert!(delay(&BACKOFF, retry, random) <= BACKOFF.max);
        }
    }
}
