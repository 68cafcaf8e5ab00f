//! 100,000 picks of every algorithm as the hooks make them, from these
//! functions: χ² against the shares that are due, at its 0.1 % point.

use mesh_common::{
    address::Address,
    frontend::algorithm,
    hash,
    least::{self, Cost},
    maglev::{self, Contender},
    schedule, select,
};

const PICKS: u64 = 100_000;
const WEIGHTS: [u32; 7] = [1, 2, 3, 4, 5, 0, 5];
/// Of six degrees of freedom.
const LIMIT: f64 = 22.5;

fn chi_square(counts: &[u64], weights: &[u32]) -> f64 {
    let total = f64::from(weights.iter().sum::<u32>());
    let due = weights.iter().map(|&weight| f64::from(weight) / total * PICKS as f64);
    let pairs = counts.iter().zip(due).filter(|&(_, due)| due > 0.0);
    pairs.map(|(&count, due)| (count as f64 - due).powi(2) / due).sum()
}

/// Numbers as if by chance.
fn draws() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(hash::mix(7)), |&last| Some(hash::mix(last)))
}

/// The schedule that the agent writes into the map of slots.
fn slots(weights: &[u32]) -> Vec<u32> {
    let mut slots = vec![0; schedule::length(weights)];
    schedule::fill(weights, &mut vec![0; weights.len()], &mut slots);
    slots
}

fn check(what: &str, weights: &[u32], picks: impl Iterator<Item = u32>) {
    let mut counts = vec![0; weights.len()];
    for pick in picks.take(PICKS as usize) {
        counts[pick as usize] += 1;
    }
    assert_eq!(counts.iter().sum::<u64>(), PICKS);
    let chi = chi_square(&counts, weights);
    assert!(chi < LIMIT, "{what}: χ² {chi}, {counts:?}");
    let none = counts.iter().zip(weights).filter(|&(_, &weight)| weight == 0);
    assert!(none.into_iter().all(|(&count, _)| count == 0), "{what}: weight 0, {counts:?}");
}

#[test]
fn round_robin_and_weighted() {
    let slots = slots(&WEIGHTS);
    let turns = (0..).map(|turn| {
        let slot = select::slot(algorithm::ROUND_ROBIN, slots.len() as u32, turn, 0);
        slots[slot.unwrap() as usize]
    });
    check("round robin", &WEIGHTS, turns);
}

#[test]
fn random() {
    let slots = slots(&WEIGHTS);
    let picks = draws().map(|draw| {
        let slot = select::slot(algorithm::RANDOM, slots.len() as u32, 0, draw as u32);
        slots[slot.unwrap() as usize]
    });
    check("random", &WEIGHTS, picks);
}

#[test]
fn consistent_hash_of_100_000_clients() {
    let address = |n: u32| Address::from(std::net::SocketAddr::from((n.to_be_bytes(), 80)));
    let contender = |index: u16| {
        let instance = address(0x0a01_0001 + u32::from(index));
        Contender::new(index, WEIGHTS[usize::from(index)], hash::address(&instance))
    };
    let mut contenders: Vec<_> = (0..WEIGHTS.len() as u16).map(contender).collect();
    let mut table = vec![0; maglev::SIZE];
    assert!(maglev::fill(&mut contenders, &mut table));
    let clients = (0x0a02_0000..).map(|client| hash::ip(address(client).ip_be));
    let owners = clients.map(|hash| u32::from(table[maglev::place(hash) as usize]));
    check("consistent hash", &WEIGHTS, owners);
}

/// The better of two by chance, as the hooks compare them.
fn better(draw: u64, cost: impl Fn(u32) -> Cost, count: u32) -> u32 {
    let (first, second) = least::pair(draw, count).unwrap();
    if cost(second).beats(cost(first)) { second } else { first }
}

/// With nothing under way all that two choices see is a tie.
#[test]
fn two_choices_between_equals() {
    // The time is 1 where connections alone count.
    for (what, ewma_ns) in [("least connections", 1), ("least response time", 1_000_000)] {
        let cost = |_| Cost { ewma_ns, pending: 0, weight: 1 };
        check(what, &[1; 7], draws().map(|draw| better(draw, cost, 7)));
    }
}

/// With 200 connections open all the time a pick depends on those before it,
/// which χ² doesn't know of: each share is held to one percent of all.
#[test]
fn two_choices_follow_what_is_open_and_how_fast() {
    for (what, times, due) in [
        ("least connections", [1, 1, 1, 1], [0.25, 0.25, 0.25, 0.25]),
        // Open connections settle so that time · open is the same everywhere.
        (
            "least response time",
            [10_000, 10_000, 20_000, 20_000],
            [2.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
        ),
    ] {
        let (mut open, mut counts) = ([0u32; 4], [0u64; 4]);
        let mut held = std::collections::VecDeque::new();
        for draw in draws().take(PICKS as usize) {
            let cost =
                |n: u32| Cost { ewma_ns: times[n as usize], pending: open[n as usize], weight: 1 };
            let pick = better(draw, cost, 4) as usize;
            open[pick] += 1;
            counts[pick] += 1;
            held.push_back(pick);
            if held.len() > 200 {
                open[held.pop_front().unwrap()] -= 1;
            }
        }
        for (count, due) in counts.iter().zip(due) {
            let share = *count as f64 / PICKS as f64;
            assert!((share - due).abs() < 0.01, "{what}: {counts:?}");
        }
    }
}
