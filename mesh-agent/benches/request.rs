//! What each request pays: the pick of an instance, its rate limit, and the
//! check of its head.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use divan::{Bencher, black_box};
use mesh_agent::{
    balance::{Ask, Balancer, Choice, Live, key},
    limit::{RateLimiter, Subject},
    model::{Algorithm, LimitBy, RateLimit, SlowStart, Weight},
    proxy::{Guard, HeadLimits},
};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RoundRobin,
    Algorithm::Random,
    Algorithm::LeastConnections,
    Algorithm::LeastResponseTime,
    Algorithm::ConsistentHash,
];

fn main() {
    divan::main();
}

/// Of ten instances with different weights.
#[divan::bench(args = ALGORITHMS)]
fn pick(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let choice = |n: u16| Choice {
        weight: Weight(n),
        turns: n.into(),
        tier: 0,
        hash: key::text(&n.to_be_bytes()),
        live: Arc::<Live>::default(),
    };
    let choices = (1..=10).map(choice).collect();
    let balancer =
        Balancer::new(algorithm, SlowStart::default(), choices, Arc::<AtomicU64>::default());
    let now = tokio::time::Instant::now();
    let mut random = 1u64;
    bencher.bench_local(|| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        balancer.pick(black_box(Ask::new(random, now)), |_| true)
    });
}

fn limit(by: LimitBy) -> RateLimiter {
    let requests = u32::MAX;
    RateLimiter::new(&RateLimit {
        requests,
        per: Duration::from_secs(1),
        burst: 1000,
        by,
        dry_run: false,
    })
}

#[divan::bench(args = [1u64, 1000])]
fn rate_limit_by_client(bencher: Bencher<'_, '_>, clients: u64) {
    let limiter = limit(LimitBy::Client);
    let start = Instant::now();
    let mut turn = 0u64;
    bencher.bench_local(|| {
        turn += 1;
        let subject = Subject { client: turn % clients, headers: None };
        limiter.take(&subject, start + Duration::from_micros(turn))
    });
}

const BROWSER: &str = "GET /reviews/1?full=true HTTP/1.1\r\nhost: reviews:9080\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    accept-language: en-US,en;q=0.5\r\naccept-encoding: gzip, deflate\r\n\
    cookie: session=eyJ1c2VyIjoiamFzb24ifQ; theme=dark\r\n\
    x-request-id: 6f1c2e0a-6f0c-4e0f-9a60-0e4a2c1b7d3e\r\nconnection: keep-alive\r\n\r\n";
const WRK: &str = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";

/// Every byte of every HTTP/1 head goes through it.
#[divan::bench]
fn guard_of_a_browsers_head(bencher: Bencher<'_, '_>) {
    guard(bencher, BROWSER);
}

#[divan::bench]
fn guard_of_the_shortest_head(bencher: Bencher<'_, '_>) {
    guard(bencher, WRK);
}

fn guard(bencher: Bencher<'_, '_>, head: &str) {
    let mut guard = Guard::new(HeadLimits { size: 64 * 1024, fields: 100 });
    bencher
        .counter(divan::counter::BytesCount::of_str(head))
        .bench_local(|| assert_eq!(guard.feed(black_box(head.as_bytes())).pass, head.len()));
}
