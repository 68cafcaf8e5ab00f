//! State by client or by header, in memory of a fixed size.
//!
//! Each key has one of sixteen places, as in a processor's cache. A key that
//! finds no place of its own takes that of the one which loses least: nothing,
//! where its state is that of a key never seen. So whoever invents keys fills
//! no memory, and keeps nobody else out. There is no lock: a place is claimed
//! by one compare-exchange.

use std::{
    array,
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// What stands in a place.
pub trait State: Default {
    /// From when on it is the same as that of a key never seen, ns.
    fn due(&self) -> u64;

    /// Makes it that of a key never seen.
    fn clear(&self);
}

impl State for AtomicU64 {
    fn due(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

const WAYS: usize = 16;

#[derive(Debug)]
pub struct Table<S> {
    sets: Box<[Set<S>]>,
    /// Keyed at random: nobody can aim at a set.
    hasher: RandomState,
}

#[derive(Debug)]
struct Set<S> {
    /// Hashes of the keys; 0 where the place is free. Two keys of the same
    /// hash would share a state; of 2⁶⁴ that doesn't happen.
    hashes: [AtomicU64; WAYS],
    states: [S; WAYS],
}

/// A place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    set: usize,
    way: usize,
}

impl<S: State> Table<S> {
    /// For `2^bits` sets of sixteen.
    pub fn new(bits: u32) -> Self {
        let set = |_| Set {
            hashes: array::from_fn(|_| AtomicU64::new(0)),
            states: array::from_fn(|_| S::default()),
        };
        Self { sets: (0..1_usize << bits).map(set).collect(), hasher: RandomState::new() }
    }

    /// The place of a key; a new one where it has none.
    pub fn place(&self, key: impl Hash, now: u64) -> Place {
        let hash = self.hasher.hash_one(key).max(1);
        let set = (hash >> 32) as usize & (self.sets.len() - 1);
        let Set { hashes, states } = &self.sets[set];
        loop {
            let known = array::from_fn::<_, WAYS, _>(|way| hashes[way].load(Ordering::Relaxed));
            if let Some(way) = known.iter().position(|known| *known == hash) {
                return Place { set, way };
            }
            let cost = |way: &usize| if known[*way] == 0 { 0 } else { states[*way].due() };
            let way = (0..WAYS).min_by_key(cost).expect("a set has ways");
            let cost = cost(&way);
            let claimed = hashes[way].compare_exchange(
                known[way],
                hash,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            // Where another thread was faster, it may have been for this key.
            if claimed.is_ok() {
                if cost > now {
                    states[way].clear();
                }
                return Place { set, way };
            }
        }
    }

    pub fn at(&self, place: Place) -> &S {
        &self.sets[place.set].states[place.way]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    #[test]
    fn keys_keep_their_places() {
        let table = Table::<AtomicU64>::new(6);
        for key in 0..200_u64 {
            table.at(table.place(key, NOW)).store(NOW + key, Ordering::Relaxed);
        }
        for key in 0..200_u64 {
            assert_eq!(table.at(table.place(key, NOW)).due(), NOW + key);
        }
    }

    #[test]
    fn a_flood_of_keys_evicts_what_loses_least() {
        let table = Table::<AtomicU64>::new(0);
        table.at(table.place("busy", NOW)).store(NOW * 1_000, Ordering::Relaxed);
        for key in 0..100_000_u64 {
            let state = table.at(table.place(key, NOW));
            // None inherits another's debt.
            assert!(state.due() <= NOW);
            state.store(NOW + 1 + key % 7, Ordering::Relaxed);
        }
        assert_eq!(table.at(table.place("busy", NOW)).due(), NOW * 1_000);
    }

    #[test]
    fn threads_agree_on_places() {
        let table = Table::<AtomicU64>::new(8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..500_u64 {
                        table.at(table.place(key, NOW)).fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let total: u64 = (0..500_u64).map(|key| table.at(table.place(key, NOW)).due()).sum();
        assert_eq!(total, 4 * 500);
    }
}
