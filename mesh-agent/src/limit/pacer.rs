//! `bandwidth`: bytes per second of one direction of a service port.
//!
//! A token bucket that holds what 50 ms bring, kept as a virtual time: when
//! the line is free again. A flow (one direction of a connection, or one body)
//! that has something to send reserves the next piece of that time by one
//! compare-exchange, waits until it begins, and gives back what it didn't use.
//! So all flows stand in one queue and take turns. A turn is a part of the
//! 50 ms, by how many wait, and never more than 16 KiB while others do: that
//! makes it fair, and the wait short.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    clock::{instant, nanos},
    table::{Place, State, Table},
};

/// What the bucket holds, ns.
pub const FILL: u64 = 50_000_000;
/// Of one turn: at least, while others wait, and alone.
const LEAST: u64 = 1024;
const SHARED: u64 = 16 * 1024;
const ALONE: u64 = 64 * 1024;
/// Turns to a fill, at least: any second has its share within a hundredth.
const EVEN: u64 = 5;
/// 4,096 clients of a node.
const CLIENT_BITS: u32 = 8;

/// One direction of a service port. Its rate may change while flows use it.
#[derive(Debug, Default)]
pub struct Pacer {
    /// Bytes per second; 0 is unlimited.
    rate: AtomicU64,
    by_client: AtomicBool,
    shared: Line,
    each: OnceLock<Table<Line>>,
}

/// What flows of one service, or of one client of it, share.
#[derive(Debug, Default)]
struct Line {
    /// When everything that was reserved has been sent, ns.
    free_at: AtomicU64,
    /// Flows that wait for their turn.
    waiting: AtomicU32,
}

impl State for Line {
    fn due(&self) -> u64 {
        self.free_at.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.free_at.store(0, Ordering::Relaxed);
    }
}

/// A turn: from its beginning on, so many bytes may be sent. What isn't used
/// when it is dropped goes back.
#[derive(Debug)]
pub struct Turn {
    pacer: Arc<Pacer>,
    /// `None` where all share one line.
    place: Option<Place>,
    bytes: u64,
    rate: u64,
    begins: u64,
    waits: bool,
}

impl Pacer {
    /// Takes the setting of a new configuration.
    pub fn configure(&self, rate: Option<NonZeroU64>, by_client: bool) {
        self.by_client.store(by_client, Ordering::Relaxed);
        self.rate.store(rate.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    pub fn is_limited(&self) -> bool {
        self.rate.load(Ordering::Relaxed) > 0
    }

    /// The next turn of a flow of this client that has `want` bytes to send;
    /// `None` where nothing is limited.
    pub fn turn(self: &Arc<Self>, client: u64, want: usize, now: Instant) -> Option<Turn> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        let now = nanos(now);
        let place = self
            .by_client
            .load(Ordering::Relaxed)
            .then(|| self.each.get_or_init(|| Table::new(CLIENT_BITS)).place(client, now));
        let line = self.line(place);
        let waiting = u64::from(line.waiting.load(Ordering::Relaxed));
        let bytes = (want as u64).clamp(1, share(rate, waiting));
        let cost = cost(bytes, rate);
        let mut begins = 0;
        let reserve = |free_at: u64| {
            // What an idle line has saved up.
            begins = free_at.max(now.saturating_sub(FILL));
            Some(begins.saturating_add(cost))
        };
        // The closure always has a new value.
        let _ = line.free_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        let waits = begins > now;
        if waits {
            line.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Some(Turn { pacer: Arc::clone(self), place, bytes, rate, begins, waits })
    }

    fn line(&self, place: Option<Place>) -> &Line {
        match (place, self.each.get()) {
            (Some(place), Some(each)) => each.at(place),
            _ => &self.shared,
        }
    }
}

/// The most bytes of one turn, while so many others wait.
fn share(rate: u64, waiting: u64) -> u64 {
    let fill = (u128::from(rate) * u128::from(FILL) / 1_000_000_000) as u64;
    let most = if waiting == 0 { ALONE } else { SHARED };
    // At a low rate, the fill itself is less than the least.
    (fill / (waiting + 1).max(EVEN)).clamp(LEAST.min(fill).max(1), most)
}

/// How long the line is taken by so many bytes, ns.
fn cost(bytes: u64, rate: u64) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64
}

impl Turn {
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// When it begins; `None` where that is now.
    pub fn begins(&self) -> Option<Instant> {
        self.waits.then(|| instant(self.begins))
    }

    /// So many bytes were sent in it.
    pub fn used(mut self, bytes: usize) {
        self.settle(bytes as u64);
    }

    fn settle(&mut self, used: u64) {
        let line = self.pacer.line(self.place);
        let rest = cost(self.bytes.saturating_sub(used), self.rate);
        if rest > 0 {
            let back = |free_at: u64| Some(free_at.saturating_sub(rest));
            // The closure always has a new value.
            let _ = line.free_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        }
        self.bytes = 0;
        if std::mem::take(&mut self.waits) {
            line.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Who gives up has sent nothing.
        self.settle(0);
    }
}

#[cfg(test)]
#[path = "pacer_tests.rs"]
mod tests;
