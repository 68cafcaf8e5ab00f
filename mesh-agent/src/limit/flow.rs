//! All limits of one service port.

use std::{sync::Arc, time::Instant};

use super::{
    Breaker, Counted, OverRate, Pacer, Quota, RateLimiter, Refusal, Refusals, Slot, Subject,
};
use crate::model::{ConnectionLimits, Policy};

/// The limits of a service port under one policy, and their state, which goes
/// on under the next.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    rates: Vec<Arc<RateLimiter>>,
    limits: ConnectionLimits,
    pub breaker: Arc<Breaker>,
    /// From clients to instances.
    pub upload: Arc<Pacer>,
    pub download: Arc<Pacer>,
    pub refusals: Arc<Refusals>,
}

impl Flow {
    /// The limits of the next policy. A rate limit that hasn't changed goes on
    /// from where it is; connections that are open follow a new bandwidth.
    pub fn renewed(&self, policy: &Policy) -> Self {
        let bandwidth = policy.bandwidth;
        let by_client = bandwidth.is_some_and(|bandwidth| bandwidth.by_client);
        self.upload.configure(bandwidth.and_then(|bandwidth| bandwidth.upload), by_client);
        self.download.configure(bandwidth.and_then(|bandwidth| bandwidth.download), by_client);
        let mut known = self.rates.clone();
        let mut rate = |spec| match known.iter().position(|one| one.spec() == spec) {
            Some(index) => known.swap_remove(index),
            None => Arc::new(RateLimiter::new(spec)),
        };
        Self {
            rates: policy.rate_limits.iter().map(&mut rate).collect(),
            limits: policy.connections,
            ..self.clone()
        }
    }

    /// Whether one may pass by all rate limits. Of those that it passed, the
    /// one with the least left; `None` where there are none. A limit in dry run
    /// sees what the others let through, and only counts.
    pub fn pass(&self, subject: &Subject<'_>, now: Instant) -> Result<Option<Quota>, Refusal> {
        let mut least: Option<Quota> = None;
        for (index, limiter) in self.rates.iter().enumerate() {
            if limiter.spec().dry_run {
                continue;
            }
            match limiter.take(subject, now) {
                Ok(quota) => {
                    if least.is_none_or(|least| quota.remaining < least.remaining) {
                        least = Some(quota);
                    }
                }
                Err(over) => {
                    let passed = self.rates[..index].iter().filter(|one| !one.spec().dry_run);
                    for limiter in passed {
                        limiter.give_back(subject, now);
                    }
                    return Err(self.refused(over));
                }
            }
        }
        for limiter in self.rates.iter().filter(|one| one.spec().dry_run) {
            if limiter.take(subject, now).is_err() {
                self.refusals.add_dry_run();
            }
        }
        Ok(least)
    }

    /// Whether there are rate limits at all.
    pub fn has_rates(&self) -> bool {
        !self.rates.is_empty()
    }

    /// Counts one more of what `policy.connections` limits.
    pub fn enter(&self, counted: Counted) -> Result<Slot, Refusal> {
        self.breaker.enter(counted, self.max(counted)).ok_or_else(|| {
            let refusal = counted.into();
            self.refusals.add(&refusal);
            refusal
        })
    }

    pub fn max(&self, counted: Counted) -> Option<u32> {
        match counted {
            Counted::Connections => self.limits.max,
            Counted::Pending => self.limits.max_pending,
            Counted::Requests => self.limits.max_requests,
        }
    }

    fn refused(&self, over: OverRate) -> Refusal {
        let refusal = Refusal::Rate(over);
        self.refusals.add(&refusal);
        refusal
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use super::*;
    use crate::model::{Bandwidth, LimitBy, RateLimit};

    const CLIENT: Subject<'static> = Subject { client: 1, headers: None };

    fn limit(requests: u32, burst: u32, dry_run: bool) -> RateLimit {
        let per = Duration::from_secs(1);
        RateLimit { requests, per, burst, by: LimitBy::Service, dry_run }
    }

    fn policy(rate_limits: &[RateLimit]) -> Policy {
        Policy { rate_limits: rate_limits.to_vec(), ..Policy::default() }
    }

    fn passes(flow: &Flow, now: Instant, times: usize) -> usize {
        (0..times).filter(|_| flow.pass(&CLIENT, now).is_ok()).count()
    }

    #[test]
    fn all_limits_must_let_it_through_and_none_pays_for_another() {
        let flow = Flow::default().renewed(&policy(&[limit(100, 50, false), limit(10, 5, false)]));
        let now = Instant::now();
        assert_eq!(passes(&flow, now, 1000), 5);
        // The wide limit has given back what the narrow one refused.
        let wide = flow.rates[0].take(&CLIENT, now).unwrap();
        assert_eq!(wide.remaining, 50 - 5 - 1);
        assert_eq!(flow.refusals.each().next(), Some(("rate-limited", 995)));
    }

    #[test]
    fn the_narrowest_quota_is_told() {
        let flow = Flow::default().renewed(&policy(&[limit(100, 50, false), limit(10, 5, false)]));
        let quota = flow.pass(&CLIENT, Instant::now()).unwrap().unwrap();
        assert_eq!((quota.limit, quota.remaining), (10, 4));
        assert_eq!(Flow::default().pass(&CLIENT, Instant::now()), Ok(None));
    }

    #[test]
    fn a_dry_run_counts_and_passes() {
        let flow = Flow::default().renewed(&policy(&[limit(10, 5, true)]));
        let now = Instant::now();
        assert_eq!(passes(&flow, now, 100), 100);
        assert_eq!((flow.refusals.dry_run(), flow.refusals.total()), (95, 0));
        // And says nothing of itself.
        assert_eq!(flow.pass(&CLIENT, now), Ok(None));
    }

    #[test]
    fn a_reload_opens_no_gate_that_it_didnt_change() {
        let (same, other) = (limit(10, 5, false), limit(20, 5, false));
        let flow = Flow::default().renewed(&policy(std::slice::from_ref(&same)));
        let now = Instant::now();
        assert_eq!(passes(&flow, now, 100), 5);
        let flow = flow.renewed(&policy(&[other, same]));
        assert_eq!(passes(&flow, now, 100), 0);
        assert_eq!(flow.refusals.total(), 95 + 100);
        let flow = flow.renewed(&policy(&[limit(11, 5, false)]));
        assert_eq!(passes(&flow, now, 100), 5);
    }

    #[test]
    fn flows_that_are_open_follow_a_new_bandwidth() {
        let flow = Flow::default().renewed(&Policy::default());
        let open = Arc::clone(&flow.download);
        assert!(!open.is_limited());
        let bandwidth =
            Bandwidth { upload: None, download: NonZeroU64::new(1000), by_client: false };
        flow.renewed(&Policy { bandwidth: Some(bandwidth), ..Policy::default() });
        assert!(open.is_limited());
    }

    #[test]
    fn what_is_over_is_refused_and_counted() {
        let connections = ConnectionLimits { max_requests: Some(1), ..ConnectionLimits::default() };
        let flow = Flow::default().renewed(&Policy { connections, ..Policy::default() });
        let _first = flow.enter(Counted::Requests).unwrap();
        assert_eq!(flow.enter(Counted::Requests).unwrap_err(), Refusal::Requests);
        assert!(flow.enter(Counted::Connections).is_ok());
        assert!(flow.refusals.each().any(|one| one == ("request-limit", 1)));
    }
}
