//! How much of a service's traffic may be retries.
//!
//! Where everything fails, each request would become as many as it may have
//! attempts, and what was overloaded would stay so. The budget bounds that, as
//! Finagle's and Linkerd's do: over the last ten seconds, retries may be a
//! share of the requests; and a few at a time are always allowed, or a service
//! with little traffic would have none.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::model;

/// Seconds that are looked back on.
const WINDOW: usize = 10;

/// Traffic and retries of a service port. Shared by all workers; outlives
/// snapshots. Two workers at the turn of a second may lose a count or two.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: [Second; WINDOW],
    /// Retries under way.
    running: AtomicU32,
    exhausted: AtomicU64,
}

#[derive(Debug, Default)]
struct Second {
    number: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// A retry under way; it counts until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Budget>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    /// Counts a request, at its first attempt. `now` is in nanoseconds.
    pub fn request(&self, now: u64) {
        self.second(now).requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Allows one retry, or doesn't.
    pub fn permit(self: &Arc<Self>, limit: &model::Budget, now: u64) -> Option<Permit> {
        let running = self.running.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        if running >= limit.min_concurrent {
            let (requests, retries) = self.recent(now);
            if (retries + 1) * 100 > requests * u64::from(limit.percent.0) {
                self.exhausted.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        self.second(now).retries.fetch_add(1, Ordering::Relaxed);
        Some(permit)
    }

    /// Retries that were not allowed, since the agent started.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    fn second(&self, now: u64) -> &Second {
        let number = now / 1_000_000_000;
        let second = &self.seconds[(number % WINDOW as u64) as usize];
        let before = second.number.load(Ordering::Relaxed);
        // Whoever sees the new second first empties what stood there.
        if before != number
            && (second.number)
                .compare_exchange(before, number, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            second.requests.store(0, Ordering::Relaxed);
            second.retries.store(0, Ordering::Relaxed);
        }
        second
    }

    fn recent(&self, now: u64) -> (u64, u64) {
        let number = now / 1_000_000_000;
        let recent = (self.seconds.iter())
            .filter(|second| second.number.load(Ordering::Relaxed) + WINDOW as u64 > number);
        recent.fold((0, 0), |(requests, retries), second| {
            let load = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
            (requests + load(&second.requests), retries + load(&second.retries))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Percent;

    const SECOND: u64 = 1_000_000_000;
    const LIMIT: model::Budget = model::Budget { percent: Percent(20), min_concurrent: 3 };

    #[test]
    fn a_few_at_a_time_are_always_allowed() {
        let budget = Arc::new(Budget::default());
        let mut held: Vec<_> = (0..3).map(|_| budget.permit(&LIMIT, SECOND).unwrap()).collect();
        assert!(budget.permit(&LIMIT, SECOND).is_none());
        assert_eq!(budget.exhausted(), 1);
        held.pop();
        assert!(budget.permit(&LIMIT, SECOND).is_some());
    }

    #[test]
    fn beyond_that_a_share_of_the_last_ten_seconds() {
        let budget = Arc::new(Budget::default());
        for _ in 0..100 {
            budget.request(20 * SECOND);
        }
        let mut held: Vec<_> = (0..50).filter_map(|_| budget.permit(&LIMIT, 25 * SECOND)).collect();
        assert_eq!(held.len(), 20);
        held.clear();
        // The requests are forgotten, the retries not yet.
        let held: Vec<_> = (0..50).filter_map(|_| budget.permit(&LIMIT, 31 * SECOND)).collect();
        assert_eq!(held.len(), 3);
    }

    proptest! {
        /// Against a list of all that happened.
        #[test]
        fn it_follows_the_model(
            steps in prop::collection::vec((0u8..4, 0u64..3), 1..300),
        ) {
            let budget = Arc::new(Budget::default());
            let (mut requests, mut retries) = (VecDeque::new(), VecDeque::new());
            let (mut held, mut now) = (Vec::new(), 100);
            for (step, pause) in steps {
                now += pause / 2;
                requests.retain(|&at| at + 10 > now);
                retries.retain(|&at| at + 10 > now);
                match step {
                    0 | 1 => {
                        budget.request(now * SECOND);
                        requests.push_back(now);
                    }
                    2 => {
                        let room = held.len() < 3
                            || (retries.len() + 1) * 5 <= requests.len();
                        let permit = budget.permit(&LIMIT, now * SECOND);
                        prop_assert_eq!(permit.is_some(), room);
                        if let Some(permit) = permit {
                            held.push(permit);
                            retries.push_back(now);
                        }
                    }
                    _ => drop(held.pop()),
                }
            }
        }
    }
}
