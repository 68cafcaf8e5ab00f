//! Backends, and the slots that say how often each one's turn comes.

use crate::{address::Address, ewma::Ewma};

/// A place in the schedule of a set: see [`crate::schedule`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotKey {
    pub set: u32,
    pub generation: u32,
    pub index: u32,
}

/// The backend whose turn it is at a slot. The address stands here as well as
/// in [`Backend`], so that a connect costs one look-up and not two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub address: Address,
    pub backend: u32,
    /// Never 0: what has no weight has no slot.
    pub weight: u16,
    /// 0 is the nearest. What may be ejected is capped tier by tier.
    pub tier: u16,
}

/// Bit of [`SlotKey::index`]: the rest is not a turn but the id of a backend.
/// Such slots are there for services with session affinity, and say whether a
/// backend may still be picked.
pub const BY_BACKEND: u32 = 1 << 31;

/// Bit of [`SlotKey::index`]: the rest counts backends and not turns. Such
/// slots are there where weights repeat backends, and are looked through when
/// the turns lead to ejected ones only.
pub const EACH: u32 = 1 << 30;

/// One backend of one service: who it is, what it has served on the kernel
/// path, and how well. Kept while its service names it and connections to it
/// live. Written by the hooks alone after the agent made it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    pub address: Address,
    pub service: u32,
    /// Connections whose SYN was sent. Opened − closed are live.
    pub opened: u64,
    pub closed: u64,
    /// Connections that ended before they were established.
    pub failed: u64,
    /// Bytes that clients sent to this backend, counted when a connection closes.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Datagrams that clients sent.
    pub datagrams: u64,
    /// Smoothed round trip of the connection that closed last, µs.
    pub srtt_us: u32,
    /// What it was ejected for last: [`cause`]; and the tier that this counts in.
    pub cause: u16,
    pub tier: u16,
    /// 0 while in service, else the end of its exile, monotonic ns; with
    /// [`PROBING`] set, of the probe's chance: see [`crate::ejection::access`].
    pub ejected_until_ns: u64,
    /// When it was ejected or came back last. What was opened before says
    /// nothing about the time after.
    pub changed_ns: u64,
    /// When it came into service: slow start counts from here; 0 for none.
    pub started_ns: u64,
    /// Failures in a row.
    pub connect_failures: u64,
    pub response_failures: u64,
    /// Exiles in a row, each longer than the one before.
    pub exiles: u64,
    /// All exiles ever.
    pub ejections: u64,
    /// Connections that got at least one byte of an answer.
    pub answered: u64,
    /// Of the response time, or of the handshake where answers aren't timed.
    pub ewma: Ewma,
    /// Answers that were timed, and for how long their clients waited in all.
    pub answers: u64,
    pub waited_ns: u64,
    /// The waits for the last of them, µs: the nth stands at n modulo
    /// [`RECENT`]. The agent takes a median of what is new.
    pub recent_us: [u32; RECENT],
}

/// How many answers' times are kept. A power of two.
pub const RECENT: usize = 16;

/// Bit of [`Backend::ejected_until_ns`]: one connection is out to see whether
/// the backend is back.
pub const PROBING: u64 = 1;

/// Values of [`Backend::cause`].
pub mod cause {
    /// Connections refused, timed out or unreachable.
    pub const CONNECT: u16 = 1;
    /// Connections that broke after a request and before an answer: reset, or
    /// nothing was acknowledged.
    pub const RESET: u16 = 2;
    /// Clients that waited for an answer and gave up.
    pub const NO_ANSWER: u16 = 3;
}

/// Where the backends of a tier that are ejected now are counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierKey {
    pub service: u32,
    pub tier: u32,
}

crate::plain_bytes!(SlotKey, Slot, Backend, TierKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<SlotKey>(), align_of::<SlotKey>()), (12, 4));
        assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (28, 4));
        assert_eq!((size_of::<Backend>(), align_of::<Backend>()), (240, 8));
        assert_eq!((size_of::<TierKey>(), align_of::<TierKey>()), (8, 4));
    }
}
