use proptest::prelude::*;

use super::*;
use crate::model::{Percent, Ratio};

fn place(text: &str) -> Locality {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { cloud: next(), region: next(), zone: next(), node: next() }
}

/// Members of one place: available, failing, drained; each of weight 1.
fn members<'a>(
    locality: &'a Locality,
    counts: [usize; 3],
) -> impl Iterator<Item = Member<'a>> + use<'a> {
    let states = [State::Available, State::Failing, State::Drained];
    states.into_iter().zip(counts).flat_map(move |(state, count)| {
        std::iter::repeat_n(Member { priority: 0, locality, weight: Weight(1), state }, count)
    })
}

fn tiers(mode: LocalityMode, counts: &[[usize; 3]]) -> Tiers {
    let places = [place("aws/west/a"), place("aws/west/b"), place("gcp/east/a")];
    let all: Vec<_> =
        places.iter().zip(counts).flat_map(|(place, &counts)| members(place, counts)).collect();
    let policy = LocalityPolicy { mode, ..LocalityPolicy::default() };
    Tiers::new(&places[0], &policy, &all)
}

fn percents(tiers: &Tiers) -> Vec<u32> {
    tiers.tiers.iter().map(|tier| (tier.share * 100.0).round() as u32).collect()
}

#[test]
fn nearness_is_the_longest_matching_prefix() {
    let cases = [
        ("aws/west/a/n1", "aws/west/a/n1", 4),
        ("aws/west/a/n1", "aws/west/a/n2", 3),
        ("aws/west/a", "aws/west/b", 2),
        ("aws/west/a", "gcp/west/a", 0),
        ("aws/west/a", "", 0),
        ("", "", 0),
        // Who only knows zones can still say so.
        ("//a", "//a", 1),
        ("//a", "aws/west/a", 0),
    ];
    for (node, instance, expect) in cases {
        assert_eq!(nearness(&place(node), &place(instance)), expect, "{node} and {instance}");
    }
}

/// The examples of Envoy's documentation, and ours: two clouds of three.
#[test]
fn known_shares() {
    use LocalityMode::{Failover, Off, Prefer, Strict};
    type Case = (LocalityMode, &'static [[usize; 3]], &'static [u32], bool);
    let cases: &[Case] = &[
        (Failover, &[[100, 0, 0], [100, 0, 0]], &[100, 0], false),
        (Failover, &[[72, 28, 0], [72, 28, 0]], &[100, 0], false),
        (Failover, &[[71, 29, 0], [71, 29, 0]], &[99, 1], false),
        (Failover, &[[50, 50, 0], [60, 40, 0]], &[70, 30], false),
        (Failover, &[[25, 75, 0], [100, 0, 0]], &[35, 65], false),
        (Failover, &[[25, 75, 0], [50, 50, 0]], &[35, 65], false),
        (Failover, &[[5, 0, 0], [3, 0, 3], [0, 0, 0]], &[100, 0], false),
        (Failover, &[[3, 0, 0], [0, 0, 0], [3, 0, 0]], &[100, 0], false),
        (Failover, &[[2, 0, 1], [0, 0, 0], [3, 0, 0]], &[93, 7], false),
        (Failover, &[[1, 0, 2], [0, 0, 0], [3, 0, 0]], &[47, 53], false),
        (Failover, &[[0, 0, 3], [0, 0, 0], [3, 0, 0]], &[0, 100], false),
        (Prefer, &[[1, 2, 0], [3, 0, 0]], &[100, 0], false),
        (Prefer, &[[0, 3, 0], [3, 0, 0]], &[0, 100], false),
        (Strict, &[[2, 1, 0], [3, 0, 0]], &[100, 0], false),
        (Strict, &[[0, 0, 3], [3, 0, 0]], &[0, 0], false),
        (Off, &[[1, 2, 0], [3, 0, 0], [3, 0, 0]], &[100], false),
        // Panic: all that aren't drained are used, by what they are.
        (Failover, &[[25, 75, 0], [20, 80, 0]], &[50, 50], true),
        (Failover, &[[1, 3, 0], [1, 3, 4]], &[50, 50], true),
        (Failover, &[[0, 1, 0]], &[100], true),
        (Failover, &[[0, 0, 2]], &[0], false),
        (Failover, &[], &[], false),
    ];
    for (mode, counts, expect, panic) in cases {
        let tiers = tiers(*mode, counts);
        assert_eq!((&percents(&tiers)[..], tiers.panic), (*expect, *panic), "{mode:?} {counts:?}");
    }
}

#[test]
fn priority_ranks_before_locality() {
    let (near, far) = (place("aws/west/a"), place("gcp"));
    let member = |priority, locality| Member {
        priority,
        locality,
        weight: Weight(1),
        state: State::Available,
    };
    let all = [member(1, &near), member(0, &far), member(0, &near)];
    let tiers = Tiers::new(&near, &LocalityPolicy::default(), &all);
    assert_eq!(tiers.of, [2, 1, 0]);
    assert_eq!(tiers.share(2, &all[2]), 1.0);
}

/// Envoy's own way, in whole parts of `whole` where Envoy has 100:
/// `LoadBalancerBase::recalculatePerPriorityState`, without degraded hosts.
fn envoy(whole: u64, overprovisioning: u64, tiers: &[(u64, u64)]) -> Vec<u64> {
    let health: Vec<u64> = tiers
        .iter()
        .map(|&(healthy, all)| (overprovisioning * healthy * (whole / 100) / all).min(whole))
        .collect();
    let total = health.iter().sum::<u64>().min(whole);
    let mut left = whole;
    let mut loads = Vec::new();
    for health in health {
        let load = (health * whole).checked_div(total).unwrap_or(0).min(left);
        left -= load;
        loads.push(load);
    }
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
    loads
}

proptest! {
    #[test]
    fn shares_are_envoys(
        weights in prop::collection::vec((0usize..3, 1u16..100, any::<bool>()), 1..30),
        overprovisioning in 100u32..300,
    ) {
        let places = [place("aws/west/a"), place("aws/west/b"), place("gcp/east/a")];
        let all: Vec<_> = weights.iter().map(|&(at, weight, up)| Member {
            priority: 0,
            locality: &places[at],
            weight: Weight(weight),
            state: if up { State::Available } else { State::Failing },
        }).collect();
        let policy = LocalityPolicy {
            overprovisioning: Ratio { thousandths: overprovisioning * 10 },
            panic_threshold: Percent(0),
            ..LocalityPolicy::default()
        };
        let got = Tiers::new(&places[0], &policy, &all);
        let sums: Vec<_> = (0..3).map(|at| {
            let of = |only: bool| weights.iter()
                .filter(|&&(place, _, up)| place == at && (up || !only))
                .map(|&(_, weight, _)| u64::from(weight)).sum::<u64>();
            (of(true), of(false))
        }).filter(|&(_, size)| size > 0).collect();
        const WHOLE: u64 = 1_000_000_000;
        let expect = envoy(WHOLE, u64::from(overprovisioning), &sums);
        for (tier, load) in got.tiers.iter().zip(&expect) {
            let load = *load as f64 / WHOLE as f64;
            prop_assert!((tier.share - load).abs() < 1e-6, "{:?} for {expect:?}", got.tiers);
        }
        // What the instances get adds up to everything, or nothing.
        let sum: f64 = all.iter().enumerate().map(|(index, one)| got.share(index, one)).sum();
        let any = all.iter().any(|one| one.state == State::Available);
        prop_assert!((sum - f64::from(u8::from(any))).abs() < 1e-9, "{sum}");
    }
}
