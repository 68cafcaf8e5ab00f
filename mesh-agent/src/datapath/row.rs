//! Everything that stands in the maps under one set and generation: what the
//! clients of one family of one service port are picked from.

use mesh_common::{
    address::Address,
    backend::{BY_BACKEND, EACH, Slot, SlotKey},
    hash,
    lookup::{CHUNK, Chunk},
    maglev::{self, Contender},
};

use crate::{
    balance,
    model::Algorithm,
    registry::{Endpoint, ServicePort},
};

/// The chunks of a lookup table.
pub(super) const CHUNKS: u32 = maglev::SIZE.div_ceil(CHUNK) as u32;

/// A row of slots, and what is derived from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// In the order of the turns.
    pub slots: Vec<Slot>,
    /// How many further slots name each backend once.
    pub each: u32,
    /// Backends, sorted, that have a slot by their id.
    pub members: Vec<u32>,
    /// Chunks of the lookup table.
    pub chunks: u32,
}

impl Row {
    /// What clients of a family pick from.
    ///
    /// An IPv4 socket can reach IPv4 only. An IPv6 socket can reach both (IPv4
    /// as v4-mapped), but only where the application allows it: so it gets IPv4
    /// backends only where there are no others.
    pub fn new(port: &ServicePort, backends: &[u32], v4: bool) -> Self {
        let of_family = |v4: bool| -> Vec<usize> {
            (0..backends.len())
                .filter(|&index| port.endpoints[index].address.is_ipv4() == v4)
                .collect()
        };
        let mut usable = of_family(v4);
        if usable.is_empty() && !v4 {
            usable = of_family(true);
        }
        let hashed = port.policy.algorithm == Algorithm::ConsistentHash;
        let slots: Vec<Slot> = (turns(port, &usable, hashed).iter())
            .map(|&turn| {
                let index = usable[turn as usize];
                let endpoint = &port.endpoints[index];
                Slot {
                    address: Address::from(endpoint.address),
                    backend: backends[index],
                    // A lookup table is made of shares, not of turns.
                    weight: if hashed { share(port, endpoint) } else { endpoint.weight.0 },
                    tier: endpoint.tier,
                }
            })
            .collect();
        Self::of(slots, port.policy.session_affinity.is_some(), hashed)
    }

    fn of(slots: Vec<Slot>, affinity: bool, hashed: bool) -> Self {
        let mut members: Vec<u32> = slots.iter().map(|slot| slot.backend).collect();
        members.sort_unstable();
        members.dedup();
        let each = if members.len() == slots.len() { 0 } else { members.len() as u32 };
        let chunks = if hashed && !slots.is_empty() { CHUNKS } else { 0 };
        Self { each, chunks, members: if affinity { members } else { Vec::new() }, slots }
    }

    /// How many different backends have slots.
    pub fn backends(&self) -> u32 {
        if self.each > 0 { self.each } else { self.slots.len() as u32 }
    }

    /// All of its entries in the map of slots: index and value.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let mut seen: Vec<&Slot> = Vec::new();
        if self.each > 0 || !self.members.is_empty() {
            seen.extend(&self.slots);
            seen.sort_unstable_by_key(|slot| slot.backend);
            seen.dedup_by_key(|slot| slot.backend);
        }
        let each = if self.each > 0 { seen.clone() } else { Vec::new() };
        let by_backend = if self.members.is_empty() { Vec::new() } else { seen };
        (0..)
            .zip(&self.slots)
            .chain((EACH..).zip(each))
            .chain(by_backend.into_iter().map(|slot| (BY_BACKEND | slot.backend, slot)))
    }

    /// How many entries that are.
    pub fn entry_count(&self) -> usize {
        self.slots.len() + self.each as usize + self.members.len()
    }

    /// Where they stand; also what an agent left that died while it wrote.
    pub fn keys(&self, set: u32, generation: u32) -> impl Iterator<Item = SlotKey> {
        (0..self.slots.len() as u32)
            .chain((0..self.each).map(|nth| EACH | nth))
            .chain(self.members.iter().map(|id| BY_BACKEND | id))
            .map(move |index| SlotKey { set, generation, index })
    }

    /// Takes in an entry as it is found in the map.
    pub fn found(&mut self, index: u32, slot: Slot) {
        if index & BY_BACKEND != 0 {
            let id = index & !BY_BACKEND;
            if let Err(at) = self.members.binary_search(&id) {
                self.members.insert(at, id);
            }
        } else if index & EACH != 0 {
            self.each = self.each.max((index & !EACH) + 1);
        } else {
            if self.slots.len() <= index as usize {
                self.slots.resize(index as usize + 1, Slot::default());
            }
            self.slots[index as usize] = slot;
        }
    }

    /// The lookup table of consistent hashing, in chunks.
    pub fn lookup(&self) -> Vec<Chunk> {
        let mut contenders: Vec<Contender> = (0u16..)
            .zip(&self.slots)
            .map(|(index, slot)| {
                Contender::new(index, u32::from(slot.weight), hash::address(&slot.address))
            })
            .collect();
        let mut table = vec![0; maglev::SIZE];
        maglev::fill(&mut contenders, &mut table);
        (table.chunks(CHUNK))
            .map(|part| {
                let mut chunk = Chunk { slots: [0; CHUNK] };
                chunk.slots[..part.len()].copy_from_slice(part);
                chunk
            })
            .collect()
    }
}

/// Indices into `usable`, as often as each one's turn comes. In consistent
/// hashing each has one, and the lookup table knows the shares.
fn turns(port: &ServicePort, usable: &[usize], hashed: bool) -> Vec<u32> {
    let turns = usable.iter().map(|&index| port.endpoints[index].turns);
    if hashed {
        // A table's entries have 16 bits, the last of which marks free places.
        let live = (0u32..).zip(turns).filter(|&(_, turns)| turns > 0);
        return live.map(|(index, _)| index).take(usize::from(u16::MAX)).collect();
    }
    balance::schedule(turns).into_vec()
}

/// The turns of an endpoint in 16 bits, in proportion to the others'.
fn share(port: &ServicePort, endpoint: &Endpoint) -> u16 {
    let most = port.endpoints.iter().map(|endpoint| endpoint.turns).max().unwrap_or(0);
    let scaled = u64::from(endpoint.turns) * u64::from(u16::MAX) / u64::from(most.max(1));
    let share = if most <= u32::from(u16::MAX) { u64::from(endpoint.turns) } else { scaled };
    u16::try_from(share).unwrap_or(u16::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(backend: u32, weight: u16) -> Slot {
        let address = std::net::SocketAddr::from(([10, 1, 0, backend as u8], 80));
        Slot { address: address.into(), backend, weight, tier: 0 }
    }

    /// As often as their weights say.
    fn turns(weights: &[u16]) -> Vec<Slot> {
        let slots = (1..).zip(weights);
        slots.flat_map(|(id, &w)| std::iter::repeat_n(slot(id, w), w.into())).collect()
    }

    #[test]
    fn backends_are_listed_once_more_only_where_turns_repeat_them() {
        let row = Row::of(turns(&[1, 1, 1]), false, false);
        assert_eq!((row.each, row.backends(), row.entry_count()), (0, 3, 3));
        let row = Row::of(turns(&[3, 1]), false, false);
        assert_eq!((row.each, row.backends(), row.entry_count()), (2, 2, 6));
        let each: Vec<_> =
            row.entries().filter(|(index, _)| index & EACH != 0).map(|(_, s)| s.backend).collect();
        assert_eq!(each, [1, 2]);
    }

    #[test]
    fn with_affinity_each_backend_is_found_by_its_id() {
        let row = Row::of(turns(&[2, 1]), true, false);
        for id in [1, 2] {
            let found = row.entries().find(|&(index, _)| index == BY_BACKEND | id);
            assert_eq!(found.map(|(_, slot)| slot.backend), Some(id));
        }
        assert_eq!(row.entry_count(), 3 + 2 + 2);
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        for (weights, affinity) in [(&[1, 1][..], false), (&[5, 2, 1], false), (&[5, 2, 1], true)] {
            let row = Row::of(turns(weights), affinity, false);
            let mut found = Row::default();
            // Maps have no order.
            let mut entries: Vec<_> = row.entries().map(|(index, slot)| (index, *slot)).collect();
            entries.reverse();
            for (index, slot) in entries {
                found.found(index, slot);
            }
            assert_eq!(found, row);
            let keys: Vec<_> = row.keys(7, 3).map(|key| key.index).collect();
            let mut written: Vec<_> = row.entries().map(|(index, _)| index).collect();
            let mut known = keys.clone();
            known.sort_unstable();
            written.sort_unstable();
            assert_eq!(known, written);
            assert!(row.keys(7, 3).all(|key| (key.set, key.generation) == (7, 3)));
        }
    }

    #[test]
    fn a_lookup_table_has_a_place_for_every_hash_in_proportion() {
        let row = Row::of(vec![slot(1, 3), slot(2, 1)], false, true);
        let table = row.lookup();
        assert_eq!((table.len() as u32, row.chunks), (CHUNKS, CHUNKS));
        let places = table.iter().flat_map(|chunk| chunk.slots).take(maglev::SIZE);
        let second = places.filter(|&slot| slot == 1).count() as f64 / maglev::SIZE as f64;
        assert!((second - 0.25).abs() < 0.01, "{second}");
        assert_eq!(Row::of(Vec::new(), false, true).chunks, 0);
    }
}
