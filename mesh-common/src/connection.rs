//! Live connections of the kernel path, and the reverse translation of UDP.

use crate::address::Address;

/// A live connection of the kernel path, by its socket's cookie: written when
/// it is established, removed when it closes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    pub client: Address,
    pub original: Address,
    pub backend_address: Address,
    pub service: u32,
    pub backend: u32,
    pub pid: u32,
    pub cgroup: u64,
    pub netns: u64,
    pub opened_ns: u64,
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

crate::plain_bytes!(Connection, Unseen, FlowKey, Flow, ReverseKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Connection>(), align_of::<Connection>()), (96, 8));
        assert_eq!((size_of::<Unseen>(), align_of::<Unseen>()), (16, 8));
        assert_eq!((size_of::<FlowKey>(), align_of::<FlowKey>()), (16, 8));
        assert_eq!((size_of::<Flow>(), align_of::<Flow>()), (32, 4));
        assert_eq!((size_of::<ReverseKey>(), align_of::<ReverseKey>()), (32, 8));
    }
}
