//! Two sockets of one node whose payload goes from one to the other, past TCP.

use crate::address::Address;

/// Both ends' addresses: where each finds what they share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PairKey {
    pub client: Address,
    /// Or the agent.
    pub instance: Address,
    /// Whose loopback addresses they are; 0 for addresses of pods.
    pub netns: u64,
}

/// Indices into the fields of a [`Pair`].
pub mod end {
    pub const CLIENT: usize = 0;
    pub const INSTANCE: usize = 1;
}

/// What the two ends share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// [`state`]
    pub state: u64,
    /// Payload that went past TCP, from the client and from the instance.
    pub bytes: [u64; 2],
    /// Of that, what each has sent since somebody looked how much the other has
    /// not read; or [`OVER`].
    pub unlooked: [u64; 2],
    /// The cookies of the two ends' sockets, under which they stand in the map of
    /// sockets. Not their addresses: a connection that has ended gives those to
    /// the next one while somebody still reads from it, and who leaves the map
    /// loses what it has not read.
    pub cookies: [u64; 2],
    /// The kernel's own sockets of the two ends: what they have not read is
    /// looked at there. Nothing else is; one that is gone says nonsense, and
    /// nobody listens to it.
    pub sockets: [u64; 2],
    /// TCP's numbers of the next byte that the client sends, and of the next that
    /// it receives, at the end of the handshake. Only the other end of this very
    /// connection has the same.
    pub numbers: [u32; 2],
    /// [`crate::socket::route`] of the client's socket.
    pub route: u32,
    pub zero: u32,
}

/// Values of [`Pair::state`]. It leaves the first once, for good: either both
/// directions are bypassed from their first byte on, or none is.
pub mod state {
    /// The client is there, the instance not yet.
    pub const WAITING: u64 = 0;
    pub const JOINED: u64 = 1;
    /// All goes by TCP: the client was faster, or the instance isn't captured.
    pub const TCP: u64 = 2;
}

/// Where this kernel's sockets count their bytes: offsets into `struct sock`, and
/// into `struct tcp_sock`, which begins with it. All 0 where nothing may go past
/// TCP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `sk_backlog.rmem_alloc`: what waits to be read.
    pub unread: u32,
    /// `bytes_sent`, by TCP.
    pub sent: u32,
    /// `write_seq`: the end of what TCP was given to send.
    pub written: u32,
    /// `snd_nxt`: the end of what it has sent of that.
    pub next: u32,
}

/// How much may be unread: nothing slows down who sends past TCP, so what is
/// more than this goes by TCP, which does. As much as TCP would take by itself.
pub const UNREAD: u32 = 4 << 20;

/// After how much it is looked at. Who asks and is answered sends less for a
/// long time, and doesn't pay for it often.
pub const LOOK_AFTER: u64 = 64 << 10;

/// This direction goes by TCP from here on: back and forth would reorder.
pub const OVER: u64 = u64::MAX;

crate::plain_bytes!(PairKey, Pair, Counts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<PairKey>(), align_of::<PairKey>()), (48, 8));
        assert_eq!((size_of::<Pair>(), align_of::<Pair>()), (88, 8));
        assert_eq!((size_of::<Counts>(), align_of::<Counts>()), (16, 4));
    }
}
