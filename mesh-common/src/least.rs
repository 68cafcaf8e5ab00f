//! Two random choices: which two slots, and which of two candidates is better.
//!
//! Two choices are nearly as good as a look at all, and don't herd: with stale
//! numbers, "the best of all" sends everybody to the same one (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 2001).

use crate::select::scale;

/// Two slots, different wherever there are two: the better of the same slot
/// twice would be no choice, and the worst of three would keep a ninth of all
/// picks instead of none. `None` where there is nothing to pick from.
#[inline(always)]
pub fn pair(random: u64, slots: u32) -> Option<(u32, u32)> {
    if slots == 0 {
        return None;
    }
    let first = scale((random >> 32) as u32, slots);
    // The second is one of the other slots − 1, counted on from the first.
    let on = if slots == 1 { 0 } else { 1 + scale(random as u32, slots - 1) };
    let second = u64::from(first) + u64::from(on);
    Some((
        first,
        (if second >= u64::from(slots) { second - u64::from(slots) } else { second }) as u32,
    ))
}

/// What is under way at a candidate, and its weight (above zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub active: u32,
    pub weight: u32,
}

impl Load {
    /// Whether this one is better: less `(active + 1) / weight`. Not on a tie.
    #[inline(always)]
    pub const fn beats(self, other: Self) -> bool {
        // Multiplied crosswise, which needs no division; at most 2³² · (2³² − 1).
        (self.active as u64 + 1) * (other.weight as u64)
            < (other.active as u64 + 1) * (self.weight as u64)
    }
}

/// The expected wait at a candidate: its average response time, times those
/// that are pending and the new one, divided by its weight (above zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// [`crate::ewma::Ewma::read`]; 0 counts as 1, so that pending ones show.
    pub ewma_ns: u64,
    pub pending: u32,
    pub weight: u32,
}

/// More pending than this count as this.
const MAX_PENDING: u32 = (1 << 24) - 2;

impl Cost {
    /// Whether this one is better: less `ewma × (pending + 1) / weight`. Not on
    /// a tie.
    #[inline(always)]
    pub const fn beats(self, other: Self) -> bool {
        let (high, low) = wide(self.wait(), other.weight);
        let (other_high, other_low) = wide(other.wait(), self.weight);
        high < other_high || (high == other_high && low < other_low)
    }

    /// Below 2⁶³: 39 bits of time, 24 of requests.
    #[inline(always)]
    const fn wait(self) -> u64 {
        let ewma = match self.ewma_ns {
            0 => 1,
            ns if ns > crate::ewma::MAX_NS => crate::ewma::MAX_NS,
            ns => ns,
        };
        let pending = if self.pending > MAX_PENDING { MAX_PENDING } else { self.pending };
        ewma * (pending as u64 + 1)
    }
}

/// The 96 bits of a product: the upper 64 and the lower 32. Written out, as
/// eBPF has no 128-bit integers.
#[inline(always)]
const fn wide(a: u64, b: u32) -> (u64, u32) {
    let low = (a & 0xffff_ffff) * b as u64;
    ((a >> 32) * b as u64 + (low >> 32), low as u32)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;
    use crate::ewma::MAX_NS;

    #[test]
    fn one_slot_is_both_choices() {
        assert_eq!(pair(u64::MAX, 0), None);
        assert_eq!(pair(u64::MAX, 1), Some((0, 0)));
    }

    /// χ² over 100,000 draws of all 20 ordered pairs of 5: 43.8 is the 0.1 %
    /// point of 19 degrees of freedom.
    #[test]
    fn every_pair_is_equally_likely() {
        let (mut counts, mut state) = ([[0u32; 5]; 5], 1u64);
        for _ in 0..100_000 {
            state = crate::hash::mix(state);
            let (a, b) = pair(state, 5).unwrap();
            counts[a as usize][b as usize] += 1;
        }
        assert!((0..5).all(|n| counts[n][n] == 0));
        let off_diagonal = counts.iter().flatten().filter(|&&n| n > 0);
        let chi: f64 = off_diagonal.map(|&n| (f64::from(n) - 5000.0).powi(2) / 5000.0).sum();
        assert!(chi < 43.8, "χ² {chi}");
    }

    #[test]
    fn known_comparisons() {
        let load = |active, weight| Load { active, weight };
        assert!(load(0, 1).beats(load(1, 1)));
        assert!(!load(1, 1).beats(load(1, 1)), "a tie");
        assert!(load(4, 3).beats(load(1, 1)), "5/3 < 2");
        let cost = |ewma_ns, pending, weight| Cost { ewma_ns, pending, weight };
        assert!(cost(1_000_000, 3, 1).beats(cost(20_000_000, 0, 1)), "4 ms < 20 ms");
        assert!(cost(20_000_000, 0, 30).beats(cost(1_000_000, 0, 1)));
        assert!(cost(0, 0, 1).beats(cost(0, 1, 1)), "unknown ones share");
    }

    proptest! {
        #[test]
        fn pairs_differ(random: u64, slots in 2u32..) {
            let (a, b) = pair(random, slots).unwrap();
            prop_assert!(a < slots && b < slots && a != b);
        }

        #[test]
        fn fewer_is_fewer(a: u32, wa in 1u32.., b: u32, wb in 1u32..) {
            let exact = (u128::from(a) + 1) * u128::from(wb) < (u128::from(b) + 1) * u128::from(wa);
            let (a, b) = (Load { active: a, weight: wa }, Load { active: b, weight: wb });
            prop_assert_eq!(a.beats(b), exact);
            prop_assert!(!(a.beats(b) && b.beats(a)));
        }

        #[test]
        fn cheaper_is_cheaper(
            a in (1..=MAX_NS, 0..=MAX_PENDING, 1u32..),
            b in (1..=MAX_NS, 0..=MAX_PENDING, 1u32..),
        ) {
            let wait = |(ewma, pending, _): (u64, u32, u32)| u128::from(ewma) * (u128::from(pending) + 1);
            let exact = wait(a) * u128::from(b.2) < wait(b) * u128::from(a.2);
            let cost = |(ewma_ns, pending, weight)| Cost { ewma_ns, pending, weight };
            prop_assert_eq!(cost(a).beats(cost(b)), exact);
        }

        #[test]
        fn nothing_overflows(a: (u64, u32, u32), b: (u64, u32, u32)) {
            let cost = |(ewma_ns, pending, weight)| Cost { ewma_ns, pending, weight };
            prop_assert!(!(cost(a).beats(cost(b)) && cost(b).beats(cost(a))));
        }
    }
}
