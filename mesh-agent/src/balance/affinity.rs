//! Session affinity: which instance a client keeps to.
//!
//! A table of fixed size that all workers share without a lock. A full row
//! forgets the client that has been silent for longest: affinity is a
//! preference, and memory is bounded.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh_common::hash;
use tokio::time::Instant;

use super::moment::nanos;

const ROWS: usize = 512;
/// Clients of a row: 4,096 in all, far more than a node has workloads.
const WIDTH: usize = 8;

/// The clients of one service port. A client is the hash of its workload, an
/// instance that of its address.
#[derive(Debug, Default)]
pub struct Affinity {
    /// 96 KiB, for those services that use it.
    rows: OnceLock<Box<[Row]>>,
}

type Row = [Seat; WIDTH];

/// Workers may write a seat at once. It is told from its words whether they
/// belong together: the first is `client ^ instance` (Hyatt and Mann, "A
/// lock-less transposition table implementation for parallel search", 2002).
#[derive(Debug, Default)]
struct Seat {
    both: AtomicU64,
    instance: AtomicU64,
    /// When the client was there last; 0: nobody sits here.
    used: AtomicU64,
}

impl Seat {
    fn is_of(&self, client: u64) -> bool {
        self.used.load(Ordering::Relaxed) > 0
            && self.both.load(Ordering::Relaxed) ^ self.instance.load(Ordering::Relaxed) == client
    }
}

impl Affinity {
    /// The instance that the client keeps to, unless it was silent for longer
    /// than `timeout`.
    pub fn instance(&self, client: u64, timeout: Duration, now: Instant) -> Option<u64> {
        let row = &self.rows.get()?[row(client)];
        let seat = row.iter().find(|seat| seat.is_of(client))?;
        let instance = seat.instance.load(Ordering::Relaxed);
        // Read again: another client may have sat down in between.
        if !seat.is_of(client) {
            return None;
        }
        let silent = nanos(now).saturating_sub(seat.used.load(Ordering::Relaxed));
        (Duration::from_nanos(silent) <= timeout).then_some(instance)
    }

    /// The client was just sent to this instance.
    pub fn keep(&self, client: u64, instance: u64, now: Instant) {
        let empty = || (0..ROWS).map(|_| Row::default()).collect();
        let row = &self.rows.get_or_init(empty)[row(client)];
        let longest_silent = || row.iter().min_by_key(|seat| seat.used.load(Ordering::Relaxed));
        let Some(seat) = row.iter().find(|seat| seat.is_of(client)).or_else(longest_silent) else {
            return;
        };
        seat.instance.store(instance, Ordering::Relaxed);
        seat.both.store(client ^ instance, Ordering::Relaxed);
        seat.used.store(nanos(now), Ordering::Relaxed);
    }
}

fn row(client: u64) -> usize {
    hash::place(hash::mix(client), ROWS as u32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_client_keeps_its_instance_until_it_is_silent_for_too_long() {
        let affinity = Affinity::default();
        let mut now = Instant::now();
        let instance = |client, now| affinity.instance(client, TIMEOUT, now);
        assert_eq!(instance(7, now), None);
        affinity.keep(7, 70, now);
        affinity.keep(8, 80, now);
        for _ in 0..3 {
            now += TIMEOUT;
            assert_eq!(instance(7, now), Some(70));
            affinity.keep(7, 70, now);
        }
        assert_eq!(instance(8, now), None);
        affinity.keep(7, 71, now);
        assert_eq!(instance(7, now), Some(71));
        assert_eq!(instance(7, now + TIMEOUT + Duration::from_millis(1)), None);
    }

    #[test]
    fn a_full_table_forgets_the_silent_ones() {
        let affinity = Affinity::default();
        let mut now = Instant::now();
        for client in 0..100_000 {
            now += Duration::from_micros(1);
            affinity.keep(client, client * 10, now);
        }
        let instance = |client| affinity.instance(client, TIMEOUT, now);
        let known: Vec<u64> = (0..100_000).filter(|&client| instance(client).is_some()).collect();
        assert_eq!(known.len(), ROWS * WIDTH);
        assert!(known.ends_with(&(99_000..100_000).collect::<Vec<_>>()), "who came last is there");
        assert!(known.iter().all(|&client| instance(client) == Some(client * 10)));
    }
}
