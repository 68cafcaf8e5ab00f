use std::time::Duration;

use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn choice(index: usize, weight: u16) -> Choice {
    Choice {
        weight: Weight(weight),
        turns: u32::from(weight),
        tier: 0,
        hash: hash::mix(index as u64),
        live: Arc::default(),
    }
}

fn choices(weights: &[u16]) -> Vec<Choice> {
    weights.iter().enumerate().map(|(index, &weight)| choice(index, weight)).collect()
}

fn over(algorithm: Algorithm, choices: Vec<Choice>) -> Balancer {
    Balancer::new(algorithm, SlowStart::default(), choices, Arc::default())
}

fn balancer(algorithm: Algorithm, weights: &[u16]) -> Balancer {
    over(algorithm, choices(weights))
}

fn counts(balancer: &Balancer, picks: usize) -> Vec<u64> {
    counts_at(balancer, picks, Instant::now())
}

fn counts_at(balancer: &Balancer, picks: usize, now: Instant) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(42);
    let mut counts = vec![0; balancer.choices.len()];
    for _ in 0..picks {
        counts[balancer.pick(Ask::new(random.random(), now), |_| true).unwrap()] += 1;
    }
    counts
}

/// χ² of what was counted against shares that are due.
fn chi_square(counts: &[u64], due: &[f64]) -> f64 {
    let picks = counts.iter().sum::<u64>() as f64;
    let terms = counts.iter().zip(due).filter(|&(_, &due)| due > 0.0);
    terms.map(|(&n, due)| (n as f64 - due * picks).powi(2) / (due * picks)).sum()
}

const ALL: [Algorithm; 6] = Algorithm::ALL;

/// 100,000 picks over 7 weights. 22.5 is the 0.1 % point of 6 degrees of
/// freedom. Round robin is exact; the table is even to within two places.
#[test]
fn shares_follow_the_weights() {
    let weights = [1, 2, 3, 4, 5, 0, 5];
    let due: Vec<f64> = weights.iter().map(|&weight| f64::from(weight) / 20.0).collect();
    for algorithm in
        [Algorithm::RoundRobin, Algorithm::Weighted, Algorithm::Random, Algorithm::ConsistentHash]
    {
        let balancer = balancer(algorithm, &weights);
        let counts = counts(&balancer, 100_000);
        let chi = chi_square(&counts, &due);
        assert!(chi < 22.5 && counts[5] == 0, "{algorithm}: χ² {chi}, {counts:?}");
        let shares = balancer.shares(Instant::now());
        assert!(shares.iter().zip(&due).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}

/// With equal weights and nothing under way all that two choices see is a tie,
/// so that both are as even as `random`.
#[test]
fn two_choices_between_equals_are_even() {
    for algorithm in [Algorithm::LeastConnections, Algorithm::LeastResponseTime] {
        let counts = counts(&balancer(algorithm, &[1; 7]), 100_000);
        let chi = chi_square(&counts, &[1.0 / 7.0; 7]);
        assert!(chi < 22.5, "{algorithm}: χ² {chi}, {counts:?}");
    }
}

/// Each request stays for as long as 40 others take to come: what is in flight
/// follows the weights, and so do the picks.
#[test]
fn least_connections_shares_by_weight_under_load() {
    let balancer = balancer(Algorithm::LeastConnections, &[1, 2, 5]);
    let mut random = SmallRng::seed_from_u64(1);
    let mut under_way = std::collections::VecDeque::new();
    let mut counts = [0u64; 3];
    for _ in 0..100_000 {
        let index = balancer.pick(Ask::new(random.random(), Instant::now()), |_| true).unwrap();
        counts[index] += 1;
        balancer.choices[index].live.in_flight.fetch_add(1, Ordering::Relaxed);
        under_way.push_back(index);
        if under_way.len() > 40 {
            let done = under_way.pop_front().unwrap();
            balancer.choices[done].live.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
    for (count, due) in counts.iter().zip([0.125, 0.25, 0.625]) {
        let share = *count as f64 / 100_000.0;
        assert!((share - due).abs() < 0.02, "{counts:?}");
    }
}

#[test]
fn a_busy_instance_is_avoided() {
    let balancer = balancer(Algorithm::LeastConnections, &[1, 1, 1]);
    balancer.choices[1].live.in_flight.store(5, Ordering::Relaxed);
    assert_eq!(counts(&balancer, 10_000)[1], 0);
}

/// 20 ms slower, it gets nothing while others are there, and everything that
/// is due to it when it has recovered.
#[test]
fn a_slow_instance_is_avoided_until_it_has_recovered() {
    let balancer = balancer(Algorithm::LeastResponseTime, &[1, 1, 1]);
    let mut random = SmallRng::seed_from_u64(7);
    let mut now = Instant::now();
    let mut seconds = Vec::new();
    for second in 0..90 {
        let mut picks = 0;
        for _ in 0..200 {
            now += 5 * MS;
            let ask = Ask::new(random.random(), now);
            let index = balancer.pick(ask, |_| true).unwrap();
            let slow = index == 0 && (2..20).contains(&second);
            let base = Duration::from_micros(random.random_range(800..1200));
            let sample = if slow { base + 20 * MS } else { base };
            balancer.choices[index].live.observe(sample, now);
            picks += usize::from(index == 0);
        }
        seconds.push(picks);
    }
    assert!(seconds[..2].iter().all(|&picks| picks > 20), "{seconds:?}");
    assert!(seconds[2..20].iter().all(|&picks| picks < 20), "{seconds:?}");
    assert!(seconds[80..].iter().sum::<usize>() > 300, "{seconds:?}");
}

#[test]
fn an_instance_that_fails_fast_attracts_nothing() {
    let balancer = balancer(Algorithm::LeastResponseTime, &[1, 1]);
    let now = Instant::now();
    balancer.choices[0].live.observe_failure(None, now);
    balancer.choices[1].live.observe(50 * MS, now);
    assert_eq!(counts(&balancer, 1000), [0, 1000]);
}

#[test]
fn the_unusable_are_passed_over_by_all() {
    for algorithm in ALL {
        let balancer = balancer(algorithm, &[1, 1, 1, 1]);
        for random in [0, 1 << 33, u64::MAX / 2, u64::MAX] {
            let ask = Ask::new(random, Instant::now());
            assert_eq!(balancer.pick(ask, |index| index == 1), Some(1), "{algorithm}");
            assert_eq!(balancer.pick(ask, |_| false), None, "{algorithm}");
        }
    }
}

#[test]
fn there_may_be_nothing_to_pick() {
    for algorithm in ALL {
        for weights in [&[][..], &[0, 0]] {
            let ask = Ask::new(u64::MAX, Instant::now());
            assert_eq!(balancer(algorithm, weights).pick(ask, |_| true), None, "{algorithm}");
        }
    }
}

/// Who isn't usable loses his turns to all others alike.
#[test]
fn turns_of_the_unusable_are_shared() {
    let balancer = balancer(Algorithm::RoundRobin, &[1; 4]);
    let mut counts = [0; 4];
    for _ in 0..3000 {
        let ask = Ask::new(0, Instant::now());
        counts[balancer.pick(ask, |index| index != 1).unwrap()] += 1;
    }
    assert_eq!(counts, [1000, 0, 1000, 1000]);
}

#[test]
fn a_key_stays_and_moves_only_when_it_must() {
    let balancer = balancer(Algorithm::ConsistentHash, &[1; 5]);
    let mut moved = [0; 5];
    for key in 0..10_000 {
        let pick = |out: Option<usize>| {
            let ask = Ask::new(hash::mix(!key), Instant::now()).keyed(hash::mix(key));
            balancer.pick(ask, |index| Some(index) != out).unwrap()
        };
        let owner = pick(None);
        assert_eq!(pick(None), owner);
        assert_eq!(pick(Some((owner + 1) % 5)), owner);
        let heir = pick(Some(owner));
        assert_ne!(heir, owner);
        if owner == 0 {
            moved[heir] += 1;
        }
    }
    // What one leaves behind is spread over all others, not given to one.
    assert!(moved[1..].iter().all(|&heirs| heirs > 300), "{moved:?}");
}

/// In the middle of its window a new instance has half a share.
#[test]
fn a_new_instance_starts_slowly_with_every_algorithm() {
    for algorithm in ALL {
        let balancer = balancer(algorithm, &[1; 5]);
        let start = Instant::now();
        balancer.choices[2].live.start_slowly(start);
        let after = |seconds| counts_at(&balancer, 50_000, start + Duration::from_secs(seconds));
        let halfway = after(15);
        // Half of one share, of four and a half. With two choices: of the two
        // candidates, one is it in half of the cases.
        let share = halfway[2] as f64 / 50_000.0;
        assert!((0.09..0.13).contains(&share), "{algorithm}: {halfway:?}");
        let share = after(30)[2] as f64 / 50_000.0;
        assert!((0.19..0.21).contains(&share), "{algorithm}: {share}");
    }
}

#[test]
fn a_cold_instance_that_is_alone_gets_everything() {
    for algorithm in ALL {
        let balancer = balancer(algorithm, &[1]);
        balancer.choices[0].live.start_slowly(Instant::now());
        assert_eq!(counts(&balancer, 1000), [1000], "{algorithm}");
    }
}

/// A tier that is due 10 % gets 10 %, however much better the other looks.
#[test]
fn tiers_get_their_shares_with_every_algorithm() {
    for algorithm in ALL {
        let mut all = choices(&[1, 1, 1, 1]);
        for (one, turns) in all.iter_mut().zip([450, 450, 50, 50]) {
            one.turns = turns;
            one.tier = u16::from(turns == 50);
            one.live.observe(if turns == 50 { 60 * MS } else { MS }, Instant::now());
        }
        let counts = counts(&over(algorithm, all), 100_000);
        let far = (counts[2] + counts[3]) as f64 / 100_000.0;
        assert!((far - 0.1).abs() < 0.005, "{algorithm}: {counts:?}");
    }
}

proptest! {
    /// Whoever is picked is usable and has turns, and somebody is picked where
    /// anybody could be.
    #[test]
    fn only_the_usable_are_picked_and_one_is_if_any(
        members in prop::collection::vec((0u32..5, 0u16..3, any::<bool>(), 0u32..4), 0..12),
        random: u64,
        key: u64,
    ) {
        for algorithm in ALL {
            if algorithm == Algorithm::ConsistentHash && members.len() % 4 != 0 {
                continue; // A table takes a while to fill.
            }
            let all = members.iter().enumerate().map(|(index, &(turns, tier, _, busy))| {
                let one = Choice { turns, tier, ..choice(index, 1) };
                one.live.in_flight.store(busy, Ordering::Relaxed);
                one
            }).collect();
            let balancer = over(algorithm, all);
            let ask = Ask::new(random, Instant::now()).keyed(key);
            let able = |index: usize| members[index].0 > 0 && members[index].2;
            let picked = balancer.pick(ask, |index| members[index].2);
            prop_assert_eq!(picked.is_some(), (0..members.len()).any(able), "{}", algorithm);
            prop_assert!(picked.is_none_or(able), "{}", algorithm);
        }
    }
}
