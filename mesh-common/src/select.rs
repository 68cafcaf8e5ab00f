//! Which slot's turn it is. The same functions run in the `connect` hook and
//! in the agent.

use crate::frontend::algorithm;

/// The slot of a pick: round robin by the turn, anything else by chance.
///
/// A schedule repeats a backend as often as its weight asks for, so an even
/// choice of slots is a weighted choice of backends. `None` where there is
/// nothing to pick from.
#[inline(always)]
pub fn slot(algorithm_code: u8, slots: u32, turn: u64, random: u32) -> Option<u32> {
    if slots == 0 {
        return None;
    }
    Some(match algorithm_code {
        algorithm::ROUND_ROBIN => (turn % u64::from(slots)) as u32,
        _ => scale(random, slots),
    })
}

/// Maps 32 random bits to `0..bound` evenly enough: a multiplication instead
/// of a division (Lemire 2019), off by at most bound/2³².
#[inline(always)]
pub fn scale(random: u32, bound: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_pick_from() {
        assert_eq!(slot(algorithm::ROUND_ROBIN, 0, 7, 7), None);
        assert_eq!(slot(algorithm::RANDOM, 0, 7, 7), None);
    }

    #[test]
    fn round_robin_takes_turns() {
        let picks: [_; 7] =
            core::array::from_fn(|turn| slot(algorithm::ROUND_ROBIN, 3, turn as u64, 0).unwrap());
        assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(slot(algorithm::ROUND_ROBIN, 3, u64::MAX, 0), Some(0));
    }

    /// χ² over 100,000 picks, 9 degrees of freedom: 27.9 is the 0.1 % point.
    #[test]
    fn random_is_even() {
        let mut counts = [0u32; 10];
        let mut state = 0x2545_f491_u32;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            counts[slot(algorithm::RANDOM, 10, 0, state).unwrap() as usize] += 1;
        }
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi < 27.9, "χ² {chi}, counts {counts:?}");
    }

    proptest::proptest! {
        #[test]
        fn always_in_range(code in 0u8..4, slots in 1u32.., turn: u64, random: u32) {
            assert!(slot(code, slots, turn, random).unwrap() < slots);
        }
    }
}
