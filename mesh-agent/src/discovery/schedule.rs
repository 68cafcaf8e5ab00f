//! When a source is asked again. Pure: randomness comes in, from 0 up to 1.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// However many failures there were: a source that is back is noticed by then.
const LONGEST: Duration = Duration::from_secs(30);

/// ±20 %, so that nodes which started together don't ask together.
pub(super) fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

/// 1 s after the first failure, twice as long after each further one, 30 s at
/// most; jittered.
pub(super) fn back_off(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    jittered(doubled.min(LONGEST), random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_longest() {
        let seconds: Vec<_> = (0..9).map(|n| back_off(n, 0.5).as_secs_f64()).collect();
        assert_eq!(seconds, [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(back_off(u32::MAX, 0.5), LONGEST);
    }

    proptest! {
        #[test]
        fn jitter_keeps_within_a_fifth(millis in 0u64..10_000_000, random in 0.0f64..1.0) {
            let wait = Duration::from_millis(millis);
            let jittered = jittered(wait, random);
            prop_assert!(jittered >= wait.mul_f64(0.799) && jittered <= wait.mul_f64(1.201));
        }
    }
}
