//! What the hooks tell the agent through the ring buffer.

use crate::address::Address;

/// One record; `kind` says which fields mean something.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// [`kind`]
    pub kind: u32,
    pub pid: u32,
    pub netns: u64,
    pub cgroup: u64,
    pub service: u32,
    pub backend: u32,
    pub original: Address,
    pub backend_address: Address,
    /// The client's own, as far as it is known.
    pub client: Address,
    /// Of a refusal: the number of the [`Reason`](crate::reason::Reason); of an
    /// ejection: its [`cause`](crate::backend::cause).
    pub reason: u32,
    /// From SYN to close; of an ejection, how long it lasts.
    pub duration_ns: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub srtt_us: u32,
    /// Of a close: 1 where one side broke it off, instead of ending it.
    pub reset: u32,
}

/// Values of [`Event::kind`].
pub mod kind {
    /// Something that the agent should have seen happened in a namespace where
    /// it doesn't listen: `pid`, `netns`, `cgroup`.
    pub const NO_LISTENER: u32 = 1;
    /// A connection of the kernel path closed, while somebody watches: all fields.
    pub const CLOSED: u32 = 2;
    /// A connection of the kernel path was never established, while somebody
    /// watches: all but the bytes.
    pub const FAILED: u32 = 3;
    /// A backend was ejected: `service`, `backend`, `backend_address`,
    /// `duration_ns`, `reason`.
    pub const EJECTED: u32 = 4;
    /// It came back: `service`, `backend`, `backend_address`.
    pub const RETURNED: u32 = 5;
    /// A connection of the kernel path is established, while somebody watches:
    /// all but what is known only at its end. `duration_ns` is the handshake.
    pub const OPENED: u32 = 6;
    /// A `connect` was refused, while somebody watches: `pid`, `netns`,
    /// `cgroup`, `original`, `reason`.
    pub const REFUSED: u32 = 7;
}

crate::plain_bytes!(Event);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Event>(), align_of::<Event>()), (128, 8));
    }
}
