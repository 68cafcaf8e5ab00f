//! Live connections of the kernel path, and the reverse translation of UDP.

use crate::address::Address;

/// A live connection of the kernel path, by its socket's cookie: written when
/// it is established, removed when it closes. Of UDP: a socket, with the backend
/// that it dealt with last, from its first dealing until it is closed.
///
/// Whoever removes one takes it off the counts of its backend and its service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    pub client: Address,
    pub original: Address,
    pub backend_address: Address,
    pub pid: u32,
    pub with: With,
    pub cgroup: u64,
    pub netns: u64,
    pub opened_ns: u64,
}

/// Where a connection counts. One word, because a UDP socket may change it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct With {
    pub service: u32,
    pub backend: u32,
}

impl With {
    /// Both in one word, as they stand in memory.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        if cfg!(target_endian = "little") {
            (self.backend as u64) << 32 | self.service as u64
        } else {
            (self.service as u64) << 32 | self.backend as u64
        }
    }

    #[inline(always)]
    pub const fn of(word: u64) -> Self {
        let (low, high) = (word as u32, (word >> 32) as u32);
        if cfg!(target_endian = "little") {
            Self { service: low, backend: high }
        } else {
            Self { service: high, backend: low }
        }
    }
}

/// Connections to a backend whose end no hook saw.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    pub backend: u32,
    pub service: u32,
    pub connections: u64,
}

/// A UDP socket's dealings with one service: which backend it keeps to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub cookie: u64,
    pub service: u32,
    pub zero: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub address: Address,
    pub backend: u32,
    pub set: u32,
    pub generation: u32,
}

/// Who an answer comes from, as seen by one socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReverseKey {
    pub cookie: u64,
    pub from: Address,
    pub zero: u32,
}

crate::plain_bytes!(Connection, With, Unseen, FlowKey, Flow, ReverseKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Connection>(), align_of::<Connection>()), (96, 8));
        assert_eq!((size_of::<With>(), align_of::<With>()), (8, 8));
        assert_eq!(core::mem::offset_of!(Connection, with), 64);
        assert_eq!((size_of::<Unseen>(), align_of::<Unseen>()), (16, 8));
        assert_eq!((size_of::<FlowKey>(), align_of::<FlowKey>()), (16, 8));
        assert_eq!((size_of::<Flow>(), align_of::<Flow>()), (32, 4));
        assert_eq!((size_of::<ReverseKey>(), align_of::<ReverseKey>()), (32, 8));
    }

    #[test]
    fn the_word_is_what_stands_in_memory() {
        let with = With { service: 7, backend: 0x8000_0001 };
        // SAFETY: both are eight plain bytes.
        let word = unsafe { core::mem::transmute::<With, u64>(with) };
        assert_eq!((word, With::of(word)), (with.word(), with));
    }
}
