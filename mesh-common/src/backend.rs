//! Backends, and the slots that say how often each one's turn comes.

use crate::address::Address;

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
}

/// One backend of one service: who it is and what it has served on the kernel
/// path. Kept while its service names it and connections to it live.
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
    pub zero: u32,
}

crate::plain_bytes!(SlotKey, Slot, Backend);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<SlotKey>(), align_of::<SlotKey>()), (12, 4));
        assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (24, 4));
        assert_eq!((size_of::<Backend>(), align_of::<Backend>()), (80, 8));
    }
}
