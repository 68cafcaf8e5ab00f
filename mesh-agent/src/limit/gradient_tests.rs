//! The rule against a model of an instance: workers that take requests in
//! turn, and clients that don't wait for each other.

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

const MS: u64 = 1_000_000;

/// An instance with a queue, behind the rule.
struct Instance {
    gradient: Gradient,
    /// When each worker is free again, ns.
    workers: BinaryHeap<Reverse<u64>>,
    /// When each request under way ends, when it began, and how many were
    /// under way then.
    under_way: BinaryHeap<Reverse<(u64, u64, u32)>>,
    service: u64,
    /// Of the service time, at random: 0 to this many percent more.
    jitter: u64,
    random: SmallRng,
    start: Instant,
    now: u64,
}

/// What came of a span of time.
#[derive(Debug, Default)]
struct Outcome {
    /// Response times of what was accepted, ns, in order.
    times: Vec<u64>,
    seconds: f64,
}

impl Outcome {
    fn percentile(&self, share: f64) -> u64 {
        self.times[((self.times.len() - 1) as f64 * share) as usize]
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }
}

impl Instance {
    fn new(workers: usize, service_ms: u64, jitter: u64) -> Self {
        Self {
            gradient: Gradient::new(AdaptiveConcurrency::default()),
            workers: std::iter::repeat_n(Reverse(0), workers).collect(),
            under_way: BinaryHeap::new(),
            service: service_ms * MS,
            jitter,
            random: SmallRng::seed_from_u64(7),
            start: Instant::now(),
            now: 0,
        }
    }

    fn capacity(&self) -> f64 {
        let mean = self.service as f64 * (1.0 + self.jitter as f64 / 200.0);
        self.workers.len() as f64 * 1e9 / mean
    }

    /// Requests arrive at random, `per_second` on average.
    fn run(&mut self, seconds: f64, per_second: f64) -> Outcome {
        let end = self.now + (seconds * 1e9) as u64;
        let mut times = Vec::new();
        while self.now < end {
            let gap = -self.random.random::<f64>().max(1e-12).ln() / per_second;
            self.now += (gap * 1e9) as u64 + 1;
            while let Some(&Reverse((ends, began, in_flight))) = self.under_way.peek()
                && ends <= self.now
            {
                self.under_way.pop();
                let at = self.start + Duration::from_nanos(ends);
                self.gradient.sample(Duration::from_nanos(ends - began), in_flight, at);
                times.push(ends - began);
            }
            if self.under_way.len() >= self.gradient.limit() as usize {
                continue;
            }
            let Reverse(free) = self.workers.pop().expect("there are workers");
            let service = self.service * (100 + self.random.random_range(0..=self.jitter)) / 100;
            let ends = free.max(self.now) + service;
            self.workers.push(Reverse(ends));
            let in_flight = self.under_way.len() as u32 + 1;
            self.under_way.push(Reverse((ends, self.now, in_flight)));
        }
        times.sort_unstable();
        Outcome { times, seconds }
    }
}

/// What the configuration promises.
fn holds(outcome: &Outcome, instance: &Instance) {
    let unloaded = instance.service * (100 + instance.jitter) / 100;
    let p99 = outcome.percentile(0.99) as f64 / unloaded as f64;
    let goodput = outcome.rate() / instance.capacity();
    assert!(p99 < 5.0, "p99 is {p99:.1} times the unloaded one; {:?}", instance.gradient);
    assert!(goodput > 0.9, "goodput is {goodput:.2} of the capacity; {:?}", instance.gradient);
}

#[test]
fn four_workers_under_ten_times_their_capacity() {
    for jitter in [0, 20, 100] {
        let mut instance = Instance::new(4, 10, jitter);
        let load = 10.0 * instance.capacity();
        // From the first request on, the start included.
        holds(&instance.run(10.0, load), &instance);
    }
}

#[test]
fn an_overload_that_lasts_moves_nothing() {
    for (workers, jitter) in [(1, 0), (4, 0), (4, 50), (32, 20)] {
        let mut instance = Instance::new(workers, 10, jitter);
        let load = 2.0 * instance.capacity();
        instance.run(2.0, load);
        // Ten windows.
        for _ in 0..5 {
            let outcome = instance.run(120.0, load);
            if workers > 1 {
                holds(&outcome, &instance);
            }
            // One worker is under the least limit of three: what is seen there
            // is the least that can be known, and the limit is twice that.
            let limit = instance.gradient.limit();
            assert!(limit <= (workers as u32 * 4).max(7), "{limit} for {workers}");
        }
    }
}

#[test]
fn an_overload_that_comes_after_calm() {
    let mut instance = Instance::new(4, 10, 20);
    let capacity = instance.capacity();
    let calm = instance.run(120.0, 0.5 * capacity);
    // Calm: nothing is refused, but what chance brings.
    assert!(calm.rate() > 0.98 * 0.5 * capacity, "{}", calm.rate());
    let limit = instance.gradient.limit();
    assert!(limit < 18, "a limit that isn't used doesn't rise: {limit}");
    let load = 10.0 * capacity;
    // What the limit of calm let in doesn't queue for long either.
    let first = instance.run(1.0, load);
    holds(&first, &instance);
    let outcome = instance.run(10.0, load);
    holds(&outcome, &instance);
}

#[test]
fn an_instance_that_became_slower_for_good_is_used_again() {
    let mut instance = Instance::new(1000, 10, 10);
    // 10 under way, all at once: it has workers for all.
    instance.run(30.0, 1_000.0);
    instance.service = 40 * MS;
    // 40 under way now. Within two windows the rule knows the new minimum.
    instance.run(150.0, 1_000.0);
    let outcome = instance.run(10.0, 1_000.0);
    assert!(outcome.rate() > 0.98 * 1_000.0, "{} {:?}", outcome.rate(), instance.gradient);
}

#[test]
fn an_instance_that_became_faster_is_known_at_once() {
    let mut instance = Instance::new(4, 40, 10);
    let load = 10.0 * instance.capacity();
    instance.run(30.0, load);
    instance.service = 10 * MS;
    instance.run(130.0, load);
    let outcome = instance.run(10.0, load);
    holds(&outcome, &instance);
}

#[test]
fn a_limit_that_is_in_the_way_doubles_quickly() {
    let mut instance = Instance::new(500, 10, 10);
    instance.run(3.0, 20_000.0);
    let outcome = instance.run(5.0, 20_000.0);
    assert!(outcome.rate() > 0.98 * 20_000.0, "{} {:?}", outcome.rate(), instance.gradient);
}

#[test]
fn the_formula_is_the_one_of_the_contract() {
    let settings = AdaptiveConcurrency { min_samples: 1, ..AdaptiveConcurrency::default() };
    let mut gradient = Gradient::new(settings);
    let mut now = Instant::now();
    let mut step = |gradient: &mut Gradient, ms, in_flight| {
        now += settings.interval;
        let before = gradient.limit;
        gradient.sample(Duration::from_millis(ms), in_flight, now);
        (before, gradient.limit)
    };
    // The first one begins the first interval.
    step(&mut gradient, 10, 1);
    step(&mut gradient, 10, 1);
    assert_eq!(gradient.min_rtt(), Some(Duration::from_millis(10)));
    for (ms, expected) in [(10, 1.25), (20, 0.625), (25, 0.5), (1000, 0.5), (11, 12.5 / 11.0)] {
        let (before, after) = step(&mut gradient, ms, 1000);
        let formula = (expected * before + before.sqrt()).clamp(3.0, 1000.0);
        assert!((after - formula).abs() < 1e-9, "{ms} ms: {before} → {after}, not {formula}");
    }
}

#[test]
fn what_never_answers_counts_too() {
    let mut gradient = Gradient::new(AdaptiveConcurrency::default());
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    for n in 0..100 {
        gradient.sample(Duration::from_millis(10), 1000, at(n * 10));
    }
    let before = gradient.limit();
    for n in 0..100 {
        // Too short to mean anything.
        gradient.unanswered(Duration::from_millis(5), 1000, at(1000 + n * 10));
    }
    assert_eq!(gradient.limit(), before);
    for n in 0..100 {
        gradient.unanswered(Duration::from_secs(5), 1000, at(10_000 + n * 10));
    }
    assert!(gradient.limit() < 10, "{} → {}", before, gradient.limit());
}

proptest! {
    /// Whatever comes in, the limit stays within its bounds, and a sample
    /// above the buffer never raises it by more than the headroom.
    #[test]
    fn the_limit_keeps_to_its_bounds(
        samples in prop::collection::vec((1..10_000_000_000u64, 1..2_000u32, 0..500u64), 1..500),
        min in 1..10u32,
        max in 10..100u32,
    ) {
        let settings = AdaptiveConcurrency { min, max, ..AdaptiveConcurrency::default() };
        let mut gradient = Gradient::new(settings);
        let mut now = Instant::now();
        for (rtt, in_flight, gap) in samples {
            now += Duration::from_millis(gap);
            let before = gradient.limit;
            let limit = gradient.sample(Duration::from_nanos(rtt), in_flight, now);
            prop_assert!((min..=max).contains(&limit));
            prop_assert!(gradient.limit <= 2.0 * before + before.sqrt() + 1e-9);
            prop_assert!(gradient.limit >= 0.5 * before - 1e-9);
        }
    }
}

/// After a window that was overloaded all the time the limit is tried out
/// anew: how much less is let through meanwhile.
#[test]
fn a_confirmed_minimum_costs_little() {
    for workers in [4, 16, 64] {
        let mut instance = Instance::new(workers, 10, 20);
        let load = 5.0 * instance.capacity();
        instance.run(5.0, load);
        let slowest = (0..1500).map(|_| instance.run(0.1, load).rate()).fold(f64::MAX, f64::min);
        let least = slowest / instance.capacity();
        eprintln!("{workers} workers: in the worst interval {least:.2} of the capacity");
        assert!(least > 0.6, "{workers} workers: {least:.2} of the capacity");
        let outcome = instance.run(60.0, load);
        assert!(outcome.rate() / instance.capacity() > 0.97, "{workers}: {}", outcome.rate());
    }
}
