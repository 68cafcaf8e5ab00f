//! `rateLimit`: how many requests or connections pass per time.
//!
//! The arithmetic is that of `mesh_common::gcra`, which the kernel runs too.
//! The state of each bucket is one atomic word, shared by all workers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use mesh_common::gcra::{Decision, Rate};

use super::{
    clock::{duration_nanos, nanos},
    table::Table,
};
use crate::model::{LimitBy, RateLimit};

/// One limit of one service port.
#[derive(Debug)]
pub struct RateLimiter {
    spec: RateLimit,
    rate: Rate,
    /// Of the service; of requests without the header.
    shared: AtomicU64,
    /// By client or by the header's value.
    each: Option<Table<AtomicU64>>,
}

/// Who wants to pass.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Cookie of the network namespace.
    pub client: u64,
    /// `None` for connections.
    pub headers: Option<&'a http::HeaderMap>,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests per time, as configured.
    pub limit: u32,
    /// How many more would pass at once.
    pub remaining: u64,
    /// Until the whole burst is there again.
    pub reset: Duration,
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverRate {
    pub quota: Quota,
    /// Until one would pass.
    pub retry_after: Duration,
}

/// Sets of sixteen: 65,536 values of a header (1 MiB), 4,096 clients of a node.
const HEADER_BITS: u32 = 12;
const CLIENT_BITS: u32 = 8;

impl RateLimiter {
    pub fn new(spec: &RateLimit) -> Self {
        let each = match spec.by {
            LimitBy::Service => None,
            LimitBy::Client => Some(Table::new(CLIENT_BITS)),
            LimitBy::Header(_) => Some(Table::new(HEADER_BITS)),
        };
        let rate = Rate::new(spec.requests, duration_nanos(spec.per), spec.burst);
        Self { spec: spec.clone(), rate, shared: AtomicU64::new(0), each }
    }

    pub fn spec(&self) -> &RateLimit {
        &self.spec
    }

    /// Lets one pass, or not.
    pub fn take(&self, subject: &Subject<'_>, now: Instant) -> Result<Quota, OverRate> {
        let now = nanos(now);
        let state = self.state(subject, now);
        let mut tat = state.load(Ordering::Relaxed);
        loop {
            let next = match self.rate.decide(tat, now) {
                Decision::Allowed { tat } => tat,
                Decision::Refused { wait } => {
                    let retry_after = Duration::from_nanos(wait);
                    return Err(OverRate { quota: self.quota(tat, now), retry_after });
                }
            };
            match state.compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(self.quota(next, now)),
                Err(changed) => tat = changed,
            }
        }
    }

    /// Takes back what [`Self::take`] has let pass: another limit refused it.
    pub fn give_back(&self, subject: &Subject<'_>, now: Instant) {
        let state = self.state(subject, nanos(now));
        let back = |tat: u64| Some(tat.saturating_sub(self.rate.interval));
        // The closure always has a new value.
        let _ = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }

    fn state(&self, subject: &Subject<'_>, now: u64) -> &AtomicU64 {
        let Some(table) = &self.each else { return &self.shared };
        let place = match &self.spec.by {
            LimitBy::Service => return &self.shared,
            LimitBy::Client => table.place(subject.client, now),
            LimitBy::Header(name) => {
                let value = subject.headers.and_then(|headers| headers.get(name.as_ref()));
                let Some(value) = value else { return &self.shared };
                table.place(value.as_bytes(), now)
            }
        };
        table.at(place)
    }

    fn quota(&self, tat: u64, now: u64) -> Quota {
        Quota {
            limit: self.spec.requests,
            remaining: self.rate.remaining(tat, now),
            reset: Duration::from_nanos(tat.saturating_sub(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn spec(by: LimitBy) -> RateLimit {
        RateLimit { requests: 100, per: Duration::from_secs(1), burst: 20, by, dry_run: false }
    }

    fn passes(limiter: &RateLimiter, subject: &Subject<'_>, now: Instant, times: usize) -> usize {
        (0..times).filter(|_| limiter.take(subject, now).is_ok()).count()
    }

    fn client(client: u64) -> Subject<'static> {
        Subject { client, headers: None }
    }

    #[test]
    fn of_a_service_all_clients_share_one() {
        let limiter = RateLimiter::new(&spec(LimitBy::Service));
        let now = Instant::now();
        assert_eq!(passes(&limiter, &client(1), now, 100), 20);
        assert_eq!(passes(&limiter, &client(2), now, 100), 0);
        assert_eq!(passes(&limiter, &client(2), now + Duration::from_millis(105), 100), 10);
    }

    #[test]
    fn each_client_has_its_own() {
        let limiter = RateLimiter::new(&spec(LimitBy::Client));
        let now = Instant::now();
        assert_eq!(passes(&limiter, &client(1), now, 100), 20);
        assert_eq!(passes(&limiter, &client(2), now, 100), 20);
        assert_eq!(passes(&limiter, &client(1), now, 100), 0);
    }

    #[test]
    fn each_value_has_its_own_and_requests_without_it_share_one() {
        let limiter = RateLimiter::new(&spec(LimitBy::Header("x-user".into())));
        let now = Instant::now();
        for user in ["anna", "bert"] {
            let headers =
                HeaderMap::from_iter([("x-user".parse().unwrap(), user.parse().unwrap())]);
            let subject = Subject { client: 1, headers: Some(&headers) };
            assert_eq!(passes(&limiter, &subject, now, 100), 20);
        }
        let empty = HeaderMap::new();
        assert_eq!(passes(&limiter, &Subject { client: 1, headers: Some(&empty) }, now, 15), 15);
        assert_eq!(passes(&limiter, &Subject { client: 2, headers: Some(&empty) }, now, 15), 5);
    }

    #[test]
    fn the_quota_counts_down_and_says_when_to_come_again() {
        let limiter = RateLimiter::new(&spec(LimitBy::Service));
        let now = Instant::now();
        let first = limiter.take(&client(1), now).unwrap();
        assert_eq!(first.limit, 100);
        assert_eq!((first.remaining, first.reset), (19, Duration::from_millis(10)));
        assert_eq!(passes(&limiter, &client(1), now, 19), 19);
        let over = limiter.take(&client(1), now).unwrap_err();
        assert_eq!(over.retry_after, Duration::from_millis(10));
        assert_eq!((over.quota.remaining, over.quota.reset), (0, Duration::from_millis(200)));
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let limiter = RateLimiter::new(&spec(LimitBy::Service));
        let now = Instant::now();
        assert_eq!(passes(&limiter, &client(1), now, 100), 20);
        limiter.give_back(&client(1), now);
        assert_eq!(passes(&limiter, &client(1), now, 100), 1);
    }

    #[test]
    fn threads_together_take_no_more_than_the_limit() {
        let limiter = RateLimiter::new(&spec(LimitBy::Service));
        let now = Instant::now();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| passes(&limiter, &client(1), now, 1000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 20);
    }
}
