//! Watching traffic while it goes by: records of requests and connections, for
//! those who asked for them, as long as they take them.
//!
//! While nobody watches, traffic reads one flag and makes no record. Who takes
//! records too slowly loses some and is told how many: traffic never waits.

mod filter;
mod pattern;
mod record;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

pub use self::{
    filter::Filter,
    pattern::{Glob, InstancePattern, PathPattern, PatternError, StatusPattern},
    record::{Client, End, Ended, Event, Kind, Record, Request, Via, timestamp},
};

/// How many may watch at a time.
const WATCHERS: usize = 8;
/// Records that wait for one who watches; a record is below 2 KiB.
const WAITING: usize = 2048;

/// Everybody who watches.
#[derive(Debug, Default)]
pub struct Taps {
    /// All that traffic looks at while nobody does.
    on: AtomicBool,
    watchers: ArcSwap<Vec<Arc<Watcher>>>,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    records: mpsc::Sender<Arc<Record>>,
    lost: AtomicU64,
}

/// As many watch as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHERS} taps are open already, and no more may be: end one of them")]
pub struct TooMany;

impl Taps {
    /// Whether somebody watches: without, no record is to be made.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Watches from now on, until what is returned is dropped.
    pub fn watch(self: &Arc<Self>, filter: Filter) -> Result<Tap, TooMany> {
        let (sender, records) = mpsc::channel(WAITING);
        let watcher = Arc::new(Watcher { filter, records: sender, lost: AtomicU64::new(0) });
        let before = self.watchers.rcu(|watchers| {
            let mut watchers = Vec::clone(watchers);
            if watchers.len() < WATCHERS {
                watchers.push(Arc::clone(&watcher));
            }
            watchers
        });
        if before.len() >= WATCHERS {
            return Err(TooMany);
        }
        self.settle();
        Ok(Tap { taps: Arc::clone(self), watcher, records })
    }

    /// Hands a record to all whom it concerns. Never waits.
    pub fn publish(&self, record: Record) {
        let record = Arc::new(record);
        for watcher in self.watchers.load().iter().filter(|it| it.filter.admits(&record)) {
            if watcher.records.try_send(Arc::clone(&record)).is_err() {
                watcher.lost.fetch_add(1, Ordering::Relaxed);
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub fn watchers(&self) -> usize {
        self.watchers.load().len()
    }

    /// Records that those who watched were too slow for.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn settle(&self) {
        // Until it is what the list says: two may come and go at once.
        loop {
            let on = self.watchers() > 0;
            self.on.store(on, Ordering::SeqCst);
            if on == (self.watchers() > 0) {
                return;
            }
        }
    }
}

/// One who watches.
#[derive(Debug)]
pub struct Tap {
    taps: Arc<Taps>,
    watcher: Arc<Watcher>,
    records: mpsc::Receiver<Arc<Record>>,
}

/// What one who watches is told.
#[derive(Clone, Debug)]
pub enum Seen {
    Record(Arc<Record>),
    /// That many more happened than were taken.
    Lost(u64),
}

impl Tap {
    /// What came first, when something has come.
    pub async fn next(&mut self) -> Seen {
        match self.records.recv().await {
            Some(record) => Seen::Record(record),
            // Its sender is in `self`.
            None => std::future::pending().await,
        }
    }

    /// What is there already: records first, so that what was lost is told
    /// where the gap is.
    pub fn next_now(&mut self) -> Option<Seen> {
        match self.records.try_recv() {
            Ok(record) => Some(Seen::Record(record)),
            Err(_) => match self.watcher.lost.swap(0, Ordering::Relaxed) {
                0 => None,
                lost => Some(Seen::Lost(lost)),
            },
        }
    }

    pub fn filter(&self) -> &Filter {
        &self.watcher.filter
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.taps.watchers.rcu(|watchers| {
            let mut watchers = Vec::clone(watchers);
            watchers.retain(|one| !Arc::ptr_eq(one, &self.watcher));
            watchers
        });
        self.taps.settle();
    }
}
