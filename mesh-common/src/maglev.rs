//! Consistent hashing by Maglev (Eisenbud et al., NSDI 2016, section 3.4): a
//! table of places, each of which belongs to one backend. Even to within a few
//! places, and when a backend leaves, few places change hands but its own.
//!
//! Every node that knows the same backends, in whatever order, builds the same
//! table, and so sends the same key to the same backend.

use crate::hash;

/// Places of a table: a prime, and far above 100 times the backends that a
/// service has in practice, so that shares are within 1 % of the weights.
pub const SIZE: usize = 65_537;

/// A backend that takes places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// What is written into its places.
    pub index: u16,
    /// 0 takes none.
    pub weight: u32,
    /// [`hash::address`] of it: what makes its order of places its own.
    hash: u64,
    /// The place that it asks for next, and how far on the one after it is.
    position: u32,
    skip: u32,
    /// How much of a turn it has saved up.
    credit: u64,
}

impl Contender {
    pub const fn new(index: u16, weight: u32, hash: u64) -> Self {
        Self { index, weight, hash, position: 0, skip: 0, credit: 0 }
    }
}

/// Marks a place that nobody has; no contender may have this index.
const FREE: u16 = u16::MAX;

/// Fills the table, which must be [`SIZE`] long; `contenders` is sorted, and
/// used as working space. `false`, and the table left alone, where nobody has a
/// weight.
///
/// Contenders take turns, as often as their weights ask for; whose turn it is
/// takes the first place of its own order that is still free.
///
/// # Panics
/// Where a length or an index is not as said.
pub fn fill(contenders: &mut [Contender], table: &mut [u16]) -> bool {
    assert_eq!(table.len(), SIZE, "a table has {SIZE} places");
    assert!(contenders.iter().all(|c| c.index != FREE), "an index that marks free places");
    let heaviest = contenders.iter().map(|c| c.weight).max().unwrap_or(0);
    if heaviest == 0 {
        return false;
    }
    // The order of turns must not depend on that of discovery.
    contenders.sort_unstable_by_key(|c| c.hash);
    for contender in contenders.iter_mut() {
        contender.position = hash::place(contender.hash, SIZE as u32);
        contender.skip = 1 + hash::place(hash::again(contender.hash, 1), SIZE as u32 - 1);
        contender.credit = 0;
    }
    table.fill(FREE);
    let mut taken = 0;
    loop {
        for contender in contenders.iter_mut() {
            // The heaviest has a turn in every round.
            contender.credit += u64::from(contender.weight);
            if contender.credit < u64::from(heaviest) {
                continue;
            }
            contender.credit -= u64::from(heaviest);
            take(contender, table);
            taken += 1;
            if taken == SIZE {
                return true;
            }
        }
    }
}

/// Gives the contender the next free place of its order. There is one: the
/// size is prime, so every order visits all places.
fn take(contender: &mut Contender, table: &mut [u16]) {
    loop {
        let place = contender.position as usize;
        let next = contender.position + contender.skip;
        contender.position = if next < SIZE as u32 { next } else { next - SIZE as u32 };
        if table[place] == FREE {
            table[place] = contender.index;
            return;
        }
    }
}

/// The place of a key in a table.
#[inline(always)]
pub fn place(hash: u64) -> u32 {
    hash::place(hash, SIZE as u32)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::SocketAddr;
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::address::Address;

    fn contenders(weights: &[u32]) -> Vec<Contender> {
        let address = |n: u32| SocketAddr::from(((0x0a01_0000 + n).to_be_bytes(), 80));
        (0u16..)
            .zip(weights)
            .map(|(n, &weight)| {
                Contender::new(n, weight, hash::address(&Address::from(address(u32::from(n)))))
            })
            .collect()
    }

    fn table(mut contenders: Vec<Contender>) -> Vec<u16> {
        let mut table = vec![0; SIZE];
        assert!(fill(&mut contenders, &mut table));
        table
    }

    fn places(table: &[u16], index: u16) -> f64 {
        table.iter().filter(|&&owner| owner == index).count() as f64
    }

    #[test]
    fn even_to_a_place_where_weights_are_equal() {
        for backends in [1, 3, 10, 100] {
            let table = table(contenders(&vec![1; backends]));
            let fair = SIZE as f64 / backends as f64;
            for index in 0..backends as u16 {
                assert!((places(&table, index) - fair).abs() <= 1.0);
            }
        }
    }

    #[test]
    fn who_leaves_takes_little_along() {
        let all = contenders(&[1; 10]);
        let before = table(all.clone());
        let after = table(all.into_iter().filter(|c| c.index != 3).collect());
        let moved = before.iter().zip(&after).filter(|(a, b)| **a != 3 && a != b).count();
        // The paper measures 2 to 5 % for tables of this size.
        assert!(moved as f64 / (SIZE as f64) < 0.05, "{moved} places of others moved");
        assert!(after.iter().all(|&owner| owner != 3));
    }

    #[test]
    fn nobody_with_a_weight() {
        let mut table = vec![7; SIZE];
        assert!(!fill(&mut [], &mut table));
        assert!(!fill(&mut contenders(&[0, 0]), &mut table));
        assert!(table.iter().all(|&owner| owner == 7));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0u32..100, 1..30)) {
            prop_assume!(weights.iter().any(|&w| w > 0));
            let table = table(contenders(&weights));
            let total: u32 = weights.iter().sum();
            for (index, &weight) in (0u16..).zip(&weights) {
                let fair = SIZE as f64 * f64::from(weight) / f64::from(total);
                // The last round may be cut short.
                prop_assert!((places(&table, index) - fair).abs() <= 2.0);
            }
        }

        #[test]
        fn the_order_of_discovery_is_of_no_account(
            shuffled in Just(contenders(&[1, 2, 3, 1, 5, 1, 1, 9])).prop_shuffle(),
        ) {
            prop_assert_eq!(table(shuffled), table(contenders(&[1, 2, 3, 1, 5, 1, 1, 9])));
        }

        /// A changed weight moves about what it must: the difference itself,
        /// and at most as much again.
        #[test]
        fn a_changed_weight_moves_little(before in 50u32..100, after in 50u32..100) {
            let a = table(contenders(&[before, 100, 100, 100]));
            let b = table(contenders(&[after, 100, 100, 100]));
            let moved = a.iter().zip(&b).filter(|(a, b)| a != b).count() as f64;
            let needed = (places(&a, 0) - places(&b, 0)).abs();
            prop_assert!(moved <= 2.0 * needed + 0.05 * SIZE as f64, "{moved} for {needed}");
        }
    }
}
