//! `connections`: how much of a service may be under way at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::Notify;

/// What is counted of one service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Connections to its instances.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
}

/// The counts of one service port, of all workers.
#[derive(Debug, Default)]
pub struct Breaker {
    counts: [AtomicU32; 3],
    /// Requests that wait until there is room for another connection.
    waiting: AtomicU32,
    freed: Notify,
}

/// Counts until it is dropped.
#[derive(Debug)]
pub struct Slot {
    breaker: Arc<Breaker>,
    counted: Counted,
}

impl Breaker {
    pub fn count(&self, counted: Counted) -> u32 {
        self.counts[counted as usize].load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `max` already.
    pub fn enter(self: &Arc<Self>, counted: Counted, max: Option<u32>) -> Option<Slot> {
        let max = max.unwrap_or(u32::MAX);
        let more = |count: u32| (count < max).then(|| count + 1);
        let count = &self.counts[counted as usize];
        // In one order with `waiting`: who finds no room and waits is seen by
        // the one who makes room.
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Slot { breaker: Arc::clone(self), counted })
    }

    /// A place among the connections, as soon as there is one. Where that isn't
    /// now, `make_room` may close what is idle.
    pub async fn connection(self: &Arc<Self>, max: Option<u32>, make_room: impl FnOnce()) -> Slot {
        if let Some(slot) = self.enter(Counted::Connections, max) {
            return slot;
        }
        let _waiting = Waiting::new(&self.waiting);
        make_room();
        loop {
            let freed = self.freed.notified();
            if let Some(slot) = self.enter(Counted::Connections, max) {
                return slot;
            }
            freed.await;
        }
    }

    /// Whether somebody waits for a connection to be closed.
    fn is_short(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

impl Slot {
    /// Whether somebody waits for such a slot. Then no idle connection is kept:
    /// it may be to another instance, or of another client.
    pub fn is_wanted(&self) -> bool {
        self.counted == Counted::Connections && self.breaker.is_short()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.breaker.counts[self.counted as usize].fetch_sub(1, Ordering::SeqCst);
        if self.is_wanted() {
            self.breaker.freed.notify_one();
        }
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_and_each_counts_until_dropped() {
        let breaker = Arc::<Breaker>::default();
        let slots: Vec<_> =
            (0..10).filter_map(|_| breaker.enter(Counted::Requests, Some(3))).collect();
        assert_eq!((slots.len(), breaker.count(Counted::Requests)), (3, 3));
        assert_eq!(breaker.count(Counted::Connections), 0);
        drop(slots);
        assert_eq!(breaker.count(Counted::Requests), 0);
        assert!(breaker.enter(Counted::Requests, Some(0)).is_none());
        assert!(breaker.enter(Counted::Requests, None).is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_freed() {
        let breaker = Arc::<Breaker>::default();
        let first = breaker.connection(Some(1), || {}).await;
        let waiting = tokio::spawn({
            let breaker = Arc::clone(&breaker);
            async move { breaker.connection(Some(1), || {}).await }
        });
        while !breaker.is_short() {
            tokio::task::yield_now().await;
        }
        assert!(first.is_wanted());
        drop(first);
        let second = waiting.await.unwrap();
        assert!(!breaker.is_short());
        assert_eq!(breaker.count(Counted::Connections), 1);
        drop(second);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let breaker = Arc::<Breaker>::default();
        let _first = breaker.connection(Some(1), || {}).await;
        let waiting = breaker.connection(Some(1), || {});
        let patience = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(patience, waiting).await.is_err());
        assert!(!breaker.is_short());
    }
}
