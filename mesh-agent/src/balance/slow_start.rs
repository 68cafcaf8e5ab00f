//! Slow start: an instance that is new, or back from exile, gets its share
//! little by little.

use std::time::Duration;

use crate::model::SlowStart;

/// The part of its weight that an instance of this age has:
/// `max(min, (age / window)^(1 / aggression))`, at most 1.
pub fn factor(slow_start: &SlowStart, age: Duration) -> f64 {
    if age >= slow_start.window {
        return 1.0;
    }
    let part = age.as_secs_f64() / slow_start.window.as_secs_f64();
    part.powf(1.0 / slow_start.aggression.factor()).max(slow_start.min_weight.share()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Percent, Ratio};

    #[test]
    fn known_factors() {
        let linear = SlowStart::default();
        let hasty = SlowStart { aggression: Ratio { thousandths: 2000 }, ..linear };
        let seconds = Duration::from_secs_f64;
        let cases = [
            (linear, 0.0, 0.1),
            (linear, 1.5, 0.1),
            (linear, 15.0, 0.5),
            (linear, 29.9, 0.997),
            (linear, 30.0, 1.0),
            (hasty, 7.5, 0.5),
            (SlowStart { min_weight: Percent(0), ..linear }, 0.0, 0.0),
            (SlowStart { window: Duration::ZERO, ..linear }, 0.0, 1.0),
        ];
        for (slow_start, age, expect) in cases {
            let got = factor(&slow_start, seconds(age));
            assert!((got - expect).abs() < 0.001, "{slow_start:?} at {age} s: {got}");
        }
    }
}
