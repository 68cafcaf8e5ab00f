//! The balancer of one service port: who is next among its instances.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mesh_common::{
    hash,
    least::{self, Cost, Load},
    maglev, select,
};
use tokio::time::Instant;

use super::{Live, moment::nanos, schedule};
use crate::model::{Algorithm, SlowStart, Weight};

/// An instance that can be picked.
#[derive(Clone, Debug)]
pub struct Choice {
    pub weight: Weight,
    /// Its turns in proportion to the others': its weight, scaled by the share
    /// of its tier. 0 where it is out.
    pub turns: u32,
    pub tier: u16,
    /// The same on every node: [`mesh_common::hash::address`].
    pub hash: u64,
    pub live: Arc<Live>,
}

/// What a pick is made with.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub random: u64,
    now_ns: u64,
    /// What `consistentHash` goes by.
    key: u64,
}

impl Ask {
    pub fn new(random: u64, now: Instant) -> Self {
        Self { random, now_ns: nanos(now), key: random }
    }

    /// With the hash of what its service is hashed on.
    #[must_use]
    pub fn keyed(self, key: u64) -> Self {
        Self { key, ..self }
    }
}

/// Picks indices of fixed instances. Made anew when they or their weights
/// change; what is known of each lives on in [`Live`].
#[derive(Debug)]
pub struct Balancer {
    way: Way,
    choices: Box<[Choice]>,
    slow_start: SlowStart,
    cursor: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Way {
    /// Each index as often as it has turns; by turn.
    InTurn(Box<[u32]>),
    ByChance(Box<[u32]>),
    /// Tiers apart: a nearer instance would always win against a farther one,
    /// and a tier that gets a share would get none of it.
    TwoChoices(Box<[Lot]>, Measure),
    Table(Arc<[u16]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    InFlight,
    ResponseTime,
}

/// A tier of two choices.
#[derive(Debug)]
struct Lot {
    /// Turns of this tier and all before it, of `u32::MAX`.
    until: u32,
    slots: Box<[u32]>,
}

/// Turns that are skipped, because the instance isn't usable or starts slowly,
/// before the list is walked.
const REDRAWS: u32 = 8;

/// Places of the table that a key is sent to, one after the other.
const REHASHES: u32 = 16;

impl Balancer {
    /// `cursor` goes on from where the last one of the same port stopped.
    pub fn new(
        algorithm: Algorithm,
        slow_start: SlowStart,
        choices: Vec<Choice>,
        cursor: Arc<AtomicU64>,
    ) -> Self {
        let slots = || schedule(choices.iter().map(|choice| choice.turns));
        let way = match algorithm {
            Algorithm::RoundRobin | Algorithm::Weighted => Way::InTurn(slots()),
            Algorithm::Random => Way::ByChance(slots()),
            Algorithm::LeastConnections => Way::TwoChoices(lots(&choices), Measure::InFlight),
            Algorithm::LeastResponseTime => Way::TwoChoices(lots(&choices), Measure::ResponseTime),
            Algorithm::ConsistentHash => Way::Table(table(&choices)),
        };
        Self { way, choices: choices.into(), slow_start, cursor }
    }

    /// The index of the next instance that `usable` lets through; `None` where
    /// there is none.
    pub fn pick(&self, ask: Ask, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let usable = &usable;
        let ready = |index: usize| usable(index) && self.is_warm(index, ask);
        match &self.way {
            Way::InTurn(slots) => {
                let next = || self.cursor.fetch_add(1, Ordering::Relaxed);
                let turns = (0..REDRAWS).map(|_| next());
                from_list(slots, turns.map(|turn| at(slots, turn)), ready, usable)
            }
            Way::ByChance(slots) => {
                let draws = (0..REDRAWS).map(|round| hash::again(ask.random, round));
                let places =
                    draws.map(|draw| select::scale((draw >> 32) as u32, slots.len() as u32));
                from_list(slots, places.map(|place| place as usize), ready, usable)
            }
            Way::TwoChoices(lots, measure) => self
                .better_of_two(lots, *measure, ask, &ready)
                .or_else(|| self.better_of_two(lots, *measure, ask, usable)),
            Way::Table(table) => {
                let keys = (0..REHASHES).map(|round| hash::again(ask.key, round));
                let places = keys.map(|key| maglev::place(key) as usize);
                from_list(table, places, ready, usable)
            }
        }
    }

    /// The index of the instance with this hash, unless it is out.
    pub fn find(&self, hash: u64) -> Option<usize> {
        self.choices.iter().position(|choice| choice.hash == hash && choice.turns > 0)
    }

    /// The index that is next in turn, where the algorithm takes turns.
    pub fn peek(&self) -> Option<usize> {
        match &self.way {
            Way::InTurn(slots) if !slots.is_empty() => {
                Some(slots[at(slots, self.cursor.load(Ordering::Relaxed))] as usize)
            }
            _ => None,
        }
    }

    /// The part of the picks that each instance is due, 0 to 1, by its weight,
    /// tier and age. With two choices, of the candidates.
    pub fn shares(&self, now: Instant) -> Vec<f64> {
        let now_ns = nanos(now);
        let turns: Vec<f64> = (self.choices.iter())
            .map(|one| f64::from(one.turns) * one.live.warmth(&self.slow_start, now_ns))
            .collect();
        let total: f64 = turns.iter().sum();
        turns.into_iter().map(|turns| if total > 0.0 { turns / total } else { 0.0 }).collect()
    }

    /// Whether an instance that starts slowly may have this turn. By hash, the
    /// same keys have it until the share has grown.
    fn is_warm(&self, index: usize, ask: Ask) -> bool {
        let choice = &self.choices[index];
        let warmth = choice.live.warmth(&self.slow_start, ask.now_ns);
        if warmth >= 1.0 {
            return true;
        }
        let lot = match self.way {
            Way::Table(_) => ask.key,
            // Round robin asks without new randomness for each turn.
            Way::InTurn(_) => ask.random ^ self.cursor.load(Ordering::Relaxed),
            _ => ask.random,
        };
        let draw = hash::mix(lot ^ choice.hash) >> 32;
        (draw as f64) < warmth * 4_294_967_296.0
    }

    fn better_of_two(
        &self,
        lots: &[Lot],
        measure: Measure,
        ask: Ask,
        usable: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let draw = (hash::again(ask.random, 1) >> 32) as u32;
        let drawn = lots.iter().position(|lot| draw <= lot.until)?;
        // Where nothing in a tier is usable: the others, the nearest first.
        let others = (0..lots.len()).filter(|&other| other != drawn);
        std::iter::once(drawn).chain(others).find_map(|lot| {
            let slots = &lots[lot].slots;
            let (first, second) = least::pair(ask.random, slots.len() as u32)?;
            let first = walk(slots, first, usable)?;
            let another = |index: usize| index != first && usable(index);
            let Some(second) = walk(slots, second, another) else { return Some(first) };
            Some(if self.is_better(second, first, measure, ask) { second } else { first })
        })
    }

    fn is_better(&self, one: usize, other: usize, measure: Measure, ask: Ask) -> bool {
        let (one, other) = (&self.choices[one], &self.choices[other]);
        let active = |choice: &Choice| choice.live.in_flight.load(Ordering::Relaxed);
        let weight = |choice: &Choice| u32::from(choice.weight.0.max(1));
        match measure {
            Measure::InFlight => {
                let load = |choice| Load { active: active(choice), weight: weight(choice) };
                load(one).beats(load(other))
            }
            Measure::ResponseTime => {
                let cost = |choice: &Choice| Cost {
                    ewma_ns: choice.live.response_ns_at(ask.now_ns),
                    pending: active(choice),
                    weight: weight(choice),
                };
                cost(one).beats(cost(other))
            }
        }
    }
}

fn at(slots: &[u32], turn: u64) -> usize {
    (turn % slots.len().max(1) as u64) as usize
}

/// The first of these places whose owner is ready; where none is, the first
/// ready one in the list from there on, and at last any that is usable.
fn from_list<T: Copy + Into<u32>>(
    list: &[T],
    places: impl Iterator<Item = usize>,
    ready: impl Fn(usize) -> bool,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    if list.is_empty() {
        return None;
    }
    let owner = |place: usize| list[place].into() as usize;
    let mut last = 0;
    for place in places {
        if ready(owner(place)) {
            return Some(owner(place));
        }
        last = place;
    }
    walk(list, last as u32, ready).or_else(|| walk(list, last as u32, usable))
}

/// The first usable owner from a place on, once around.
fn walk<T: Copy + Into<u32>>(
    list: &[T],
    from: u32,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (before, after) = list.split_at(from as usize);
    // Places of one owner often stand together, or come again soon.
    let mut refused = None;
    after.iter().chain(before).map(|&index| index.into() as usize).find(|&index| {
        if refused == Some(index) {
            return false;
        }
        let fine = usable(index);
        refused = (!fine).then_some(index);
        fine
    })
}

/// One lot for each tier with turns, the nearest first.
fn lots(choices: &[Choice]) -> Box<[Lot]> {
    let total: u64 = choices.iter().map(|choice| u64::from(choice.turns)).sum();
    let tiers = choices.iter().map(|choice| choice.tier).max().map_or(0, |last| last + 1);
    let mut so_far = 0;
    let mut lots = Vec::new();
    for tier in 0..tiers {
        let of_tier = |choice: &Choice| if choice.tier == tier { choice.turns } else { 0 };
        let turns: u64 = choices.iter().map(|choice| u64::from(of_tier(choice))).sum();
        if turns == 0 {
            continue;
        }
        so_far += turns;
        let until = (u64::from(u32::MAX) * so_far / total) as u32;
        lots.push(Lot { until, slots: schedule(choices.iter().map(of_tier)) });
    }
    lots.into()
}

/// The Maglev table over these instances; empty where none has turns.
fn table(choices: &[Choice]) -> Arc<[u16]> {
    let contender =
        |(index, choice): (u16, &Choice)| maglev::Contender::new(index, choice.turns, choice.hash);
    // Index 65,535 marks a free place; a service with more instances than that
    // sends no keys to those beyond.
    let mut contenders: Vec<_> = (0..u16::MAX).zip(choices).map(contender).collect();
    let mut table = vec![0; maglev::SIZE];
    if !maglev::fill(&mut contenders, &mut table) {
        table.clear();
    }
    table.into()
}

#[cfg(test)]
#[path = "balancer_tests.rs"]
mod tests;
