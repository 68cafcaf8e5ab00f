//! `adaptiveConcurrency` of one instance, shared by all workers.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::gradient::Gradient;
use crate::model::AdaptiveConcurrency;

/// The limit of one instance. The service's is their sum: an instance over its
/// limit isn't picked, and where all are, the request is refused. A gradient
/// of the service's own would take an instance that is farther away for an
/// overload.
#[derive(Debug)]
pub struct Concurrency {
    /// `u32::MAX` where there is none.
    limit: AtomicU32,
    /// Never waited for: a sample that finds another worker at it is left out,
    /// which changes no median.
    gradient: Mutex<Option<Box<Gradient>>>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { limit: AtomicU32::new(u32::MAX), gradient: Mutex::new(None) }
    }
}

impl Concurrency {
    /// Takes the settings of a new configuration; what was learnt stays where
    /// they are the same.
    pub fn configure(&self, settings: Option<&AdaptiveConcurrency>) {
        let mut gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        if gradient.as_deref().map(Gradient::settings) == settings {
            return;
        }
        *gradient = settings.copied().map(|settings| Box::new(Gradient::new(settings)));
        let limit = gradient.as_deref().map_or(u32::MAX, Gradient::limit);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many may be under way; `None` where the rule isn't set.
    pub fn limit(&self) -> Option<u32> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != u32::MAX).then_some(limit)
    }

    /// Whether there is room for one more.
    pub fn has_room(&self, in_flight: u32) -> bool {
        in_flight < self.limit.load(Ordering::Relaxed)
    }

    /// Takes in a response time; see [`Gradient::sample`].
    pub fn sample(&self, rtt: Duration, in_flight: u32, now: Instant) {
        self.with(|gradient| gradient.sample(rtt, in_flight, now));
    }

    /// See [`Gradient::unanswered`].
    pub fn unanswered(&self, elapsed: Duration, in_flight: u32, now: Instant) {
        self.with(|gradient| gradient.unanswered(elapsed, in_flight, now));
    }

    fn with(&self, feed: impl FnOnce(&mut Gradient) -> u32) {
        if self.limit().is_none() {
            return;
        }
        let Ok(mut gradient) = self.gradient.try_lock() else { return };
        if let Some(gradient) = &mut *gradient {
            self.limit.store(feed(gradient), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six of ten answers come from near, four from ten times as far. When all
    /// that is far gets ten times as slow, its own rule sees it, and one over
    /// the samples of both doesn't: hence no gradient of the service's own.
    #[test]
    fn one_rule_over_unlike_instances_would_not_see_an_overload() {
        let rule = || {
            let rule = Concurrency::default();
            rule.configure(Some(&AdaptiveConcurrency::default()));
            rule
        };
        let (near, far, both) = (rule(), rule(), rule());
        let began = Instant::now();
        let mut before = (0, 0, 0);
        for at_ms in 0..20_000_u64 {
            let now = began + Duration::from_millis(at_ms);
            let slow = if at_ms < 10_000 { 50 } else { 500 };
            let limit = |rule: &Concurrency| rule.limit().unwrap_or(0);
            if at_ms == 10_000 {
                before = (limit(&near), limit(&far), limit(&both));
            }
            for nth in 0..10 {
                let (rule, rtt) = if nth < 6 { (&near, 5) } else { (&far, slow) };
                // Quiet half of the time, and else as many as may be.
                let in_flight = |rule| if at_ms % 2_000 < 1_000 { 1 } else { limit(rule) };
                rule.sample(Duration::from_millis(rtt), in_flight(rule), now);
                both.sample(Duration::from_millis(rtt), in_flight(&both), now);
            }
        }
        let after = (near.limit().unwrap(), far.limit().unwrap(), both.limit().unwrap());
        assert!(after.1 * 2 < before.1, "its own: {before:?} {after:?}");
        assert!(after.0 >= before.0 && after.2 >= before.2, "the others: {before:?} {after:?}");
    }

    #[test]
    fn off_unless_configured_and_what_was_learnt_survives_a_reload() {
        let concurrency = Concurrency::default();
        assert_eq!(concurrency.limit(), None);
        assert!(concurrency.has_room(1_000_000));
        let settings = AdaptiveConcurrency::default();
        concurrency.configure(Some(&settings));
        assert_eq!(concurrency.limit(), Some(3));
        assert!(concurrency.has_room(2) && !concurrency.has_room(3));
        let start = Instant::now();
        for n in 0..100 {
            let now = start + Duration::from_millis(n * 10);
            concurrency.sample(Duration::from_millis(10), 1000, now);
        }
        let learnt = concurrency.limit().unwrap();
        assert!(learnt > 3);
        concurrency.configure(Some(&settings));
        assert_eq!(concurrency.limit(), Some(learnt));
        concurrency.configure(None);
        assert_eq!(concurrency.limit(), None);
    }
}
