//! Turns weights into a schedule: a list of slots in which every backend
//! stands as often as its weight asks for, spread out and not in bursts.
//!
//! The order is that of smooth weighted round robin (as nginx does it): each
//! step every backend gains its weight, the richest takes the slot and pays
//! the total. Both paths walk the same list.

/// The longest schedule. Weights that would need a longer one are scaled down,
/// which keeps every share within one slot of what was asked.
pub const MAX_SLOTS: usize = 1024;

/// How many slots these weights need: the sum of the weights divided by their
/// greatest common divisor, or [`MAX_SLOTS`] (never less than one slot for each
/// weight above zero). 0 where all weights are 0.
pub fn length(weights: &[u32]) -> usize {
    let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
    if divisor == 0 {
        return 0;
    }
    let sum: u64 = weights.iter().map(|&w| u64::from(w / divisor)).sum();
    let live = weights.iter().filter(|&&w| w > 0).count();
    if sum <= MAX_SLOTS as u64 { sum as usize } else { live.max(MAX_SLOTS) }
}

/// Fills `slots`, which must be [`length`] long, with indices into `weights`.
/// `credit` is working space, as long as `weights`.
///
/// # Panics
/// Where a length is not as said.
pub fn fill(weights: &[u32], credit: &mut [i64], slots: &mut [u32]) {
    assert_eq!(credit.len(), weights.len(), "one credit for each weight");
    assert_eq!(slots.len(), length(weights), "as many slots as the weights need");
    let live = weights.iter().filter(|&&w| w > 0).count();
    if live == slots.len() {
        // Each has one turn: the order in which they were given.
        let indices = (0u32..).zip(weights).filter(|&(_, &w)| w > 0);
        for (slot, (index, _)) in slots.iter_mut().zip(indices) {
            *slot = index;
        }
        return;
    }
    credit.fill(0);
    let total: i64 = weights.iter().map(|&w| i64::from(w)).sum();
    // Where weights are scaled down, the rare ones come first, so that every
    // live weight has its slot.
    let scaled = total > slots.len() as i64 * i64::from(weights.iter().fold(0, |a, &b| gcd(a, b)));
    let mut reserved = 0;
    if scaled {
        for (index, &weight) in (0u32..).zip(weights) {
            if weight > 0 && i64::from(weight) * (slots.len() as i64) < total {
                slots[reserved] = index;
                reserved += 1;
                credit[index as usize] -= total;
            }
        }
    }
    for slot in &mut slots[reserved..] {
        let mut richest = 0;
        for (index, &weight) in weights.iter().enumerate() {
            credit[index] += i64::from(weight);
            if weight > 0 && (weights[richest] == 0 || credit[index] > credit[richest]) {
                richest = index;
            }
        }
        credit[richest] -= total;
        *slot = richest as u32;
    }
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn schedule(weights: &[u32]) -> Vec<u32> {
        let mut slots = vec![0; length(weights)];
        fill(weights, &mut vec![0; weights.len()], &mut slots);
        slots
    }

    #[test]
    fn known_schedules() {
        let cases: &[(&[u32], &[u32])] = &[
            (&[], &[]),
            (&[0, 0], &[]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[7, 7], &[0, 1]),
            (&[0, 4, 0, 4], &[1, 3]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[3, 1], &[0, 0, 1, 0]),
        ];
        for (weights, expect) in cases {
            assert_eq!(&schedule(weights), expect, "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0u32..1000, 1..40)) {
            let slots = schedule(&weights);
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            for (index, &weight) in (0u32..).zip(&weights) {
                let turns = slots.iter().filter(|&&s| s == index).count() as f64;
                if weight == 0 {
                    prop_assert_eq!(turns, 0.0);
                    continue;
                }
                let fair = slots.len() as f64 * f64::from(weight) / total as f64;
                prop_assert!(turns >= 1.0);
                prop_assert!((turns - fair).abs() <= 1.5, "{} of {}, fair {}", turns, slots.len(), fair);
            }
        }

        #[test]
        fn no_bursts(heavy in 2u32..50) {
            // One heavy and one light backend: the light one stands alone, and
            // the heavy one never waits longer than one turn.
            let slots = schedule(&[heavy, 1]);
            prop_assert_eq!(slots.iter().filter(|&&s| s == 1).count(), 1);
            prop_assert!(slots.windows(2).all(|pair| pair != [1, 1]));
        }
    }
}
