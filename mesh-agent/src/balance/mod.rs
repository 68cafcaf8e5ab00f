//! Which instance is next. Pure decisions: randomness comes in as an argument,
//! and the arithmetic is that of `mesh_common`, which the kernel runs too.

mod live;

pub use live::Live;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mesh_common::{frontend::algorithm, schedule, select};

use crate::model::{Algorithm, Weight};

/// The balancer of one service port: fixed instances and weights, and a cursor
/// that outlives them.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    /// Each instance's index, as often as its weight asks for.
    schedule: Box<[u32]>,
    cursor: Arc<AtomicU64>,
}

impl Balancer {
    /// A balancer over instances of these weights. `cursor` goes on from where
    /// the last one of the same port stopped.
    pub fn new(algorithm: Algorithm, weights: &[Weight], cursor: Arc<AtomicU64>) -> Self {
        Self { algorithm, schedule: schedule(weights), cursor }
    }

    /// The index of the next instance that `usable` lets through; `None` where
    /// there is none. What is refused loses its turn to the next in line.
    pub fn pick(&self, random: u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let slots = u32::try_from(self.schedule.len()).ok()?;
        let turn = match self.algorithm {
            Algorithm::RoundRobin | Algorithm::Weighted => {
                self.cursor.fetch_add(1, Ordering::Relaxed)
            }
            _ => 0,
        };
        let first = select::slot(code(self.algorithm), slots, turn, random)? as usize;
        let (before, after) = self.schedule.split_at(first);
        after.iter().chain(before).map(|&index| index as usize).find(|&index| usable(index))
    }

    /// The index that round robin would pick next.
    pub fn peek(&self) -> Option<usize> {
        let turn = self.cursor.load(Ordering::Relaxed);
        let slots = u32::try_from(self.schedule.len()).ok()?;
        let slot = select::slot(algorithm::ROUND_ROBIN, slots, turn, 0)?;
        Some(self.schedule[slot as usize] as usize)
    }
}

/// The schedule of these weights: see [`mesh_common::schedule`].
pub fn schedule(weights: &[Weight]) -> Box<[u32]> {
    let weights: Vec<u32> = weights.iter().map(|weight| u32::from(weight.0)).collect();
    let mut slots = vec![0; schedule::length(&weights)];
    schedule::fill(&weights, &mut vec![0; weights.len()], &mut slots);
    slots.into()
}

/// The number by which the kernel knows an algorithm.
pub const fn code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::Weighted => algorithm::ROUND_ROBIN,
        Algorithm::Random
        | Algorithm::LeastConnections
        | Algorithm::LeastResponseTime
        | Algorithm::ConsistentHash => algorithm::RANDOM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(algorithm: Algorithm, weights: &[u16]) -> Balancer {
        let weights: Vec<Weight> = weights.iter().copied().map(Weight).collect();
        Balancer::new(algorithm, &weights, Arc::default())
    }

    #[test]
    fn round_robin_is_exact() {
        let balancer = balancer(Algorithm::RoundRobin, &[1, 1, 1]);
        let mut counts = [0; 3];
        for _ in 0..300 {
            counts[balancer.pick(0, |_| true).unwrap()] += 1;
        }
        assert_eq!(counts, [100, 100, 100]);
    }

    #[test]
    fn weights_share_and_zero_drains() {
        let balancer = balancer(Algorithm::RoundRobin, &[3, 0, 1]);
        let mut counts = [0; 3];
        for _ in 0..400 {
            counts[balancer.pick(0, |_| true).unwrap()] += 1;
        }
        assert_eq!(counts, [300, 0, 100]);
    }

    #[test]
    fn the_unusable_are_passed_over() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::Random] {
            let balancer = balancer(algorithm, &[1, 1, 1]);
            for random in [0, u32::MAX / 2, u32::MAX] {
                assert_eq!(balancer.pick(random, |index| index == 1), Some(1));
                assert_eq!(balancer.pick(random, |_| false), None);
            }
        }
    }

    #[test]
    fn nothing_to_pick() {
        assert_eq!(balancer(Algorithm::Random, &[]).pick(1, |_| true), None);
    }
}
