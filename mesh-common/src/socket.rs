//! What a captured socket carries in its socket storage, and what the agent
//! needs to know of a connection that was redirected to it.

use crate::address::Address;

/// Socket storage: written by `connect`, read by `getpeername`, `recvmsg` and
/// `sock_ops`, and gone with the socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// What the application asked for.
    pub original: Address,
    /// What it got: a backend, or the agent's listener.
    pub actual: Address,
    pub service: u32,
    /// The backend's id; meaningless unless `route` is [`route::BACKEND`].
    pub backend: u32,
    pub pid: u32,
    /// [`route`]
    pub route: u8,
    /// [`stage`]
    pub stage: u8,
    /// Of the backend, when it was picked.
    pub tier: u16,
    pub cgroup: u64,
    pub netns: u64,
    /// Monotonic time of the SYN, ns.
    pub opened_ns: u64,
    /// The very word that this connection put into
    /// [`crate::backend::Backend::ejected_until_ns`] to be the probe; 0 for
    /// all others.
    pub probe: u64,
    /// When the request left whose answer is awaited, ns; 0 for none.
    pub asked_ns: u64,
    /// The application's own `TCP_USER_TIMEOUT`, ms, which comes back once the
    /// connection is established.
    pub own_timeout_ms: u32,
    /// What we set in its place; 0 for nothing.
    pub syn_timeout_ms: u32,
    /// 1 once the application has closed the socket: how it ends from here on
    /// is the client's doing.
    pub released: u32,
    pub zero: u32,
}

/// Values of [`Socket::route`].
pub mod route {
    /// Balanced by the kernel, straight to a backend.
    pub const BACKEND: u8 = 0;
    /// To the agent's proxy listener.
    pub const PROXY: u8 = 1;
    /// To the agent's DNS listener.
    pub const DNS: u8 = 2;
    /// The agent's own, to an instance: payload is to go past TCP. The agent
    /// writes this one itself.
    pub const UPSTREAM: u8 = 3;
}

/// Values of [`Socket::stage`]: how far the life of a TCP connection went.
pub mod stage {
    pub const CHOSEN: u8 = 0;
    pub const SYN_SENT: u8 = 1;
    pub const ESTABLISHED: u8 = 2;
    /// Established, but not in the map of connections, which was full.
    pub const UNLISTED: u8 = 3;
}

/// How the agent finds the original destination: by the peer that it accepted
/// (or the sender of a DNS query), in that namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginalKey {
    pub netns: u64,
    pub client: Address,
    pub protocol: u8,
    pub zero: [u8; 3],
}

/// The original destination of a redirected connection, and whose it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original {
    pub destination: Address,
    pub service: u32,
    pub cgroup: u64,
    pub pid: u32,
    pub zero: u32,
}

crate::plain_bytes!(Socket, OriginalKey, Original);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Socket>(), align_of::<Socket>()), (112, 8));
        assert_eq!((size_of::<OriginalKey>(), align_of::<OriginalKey>()), (32, 8));
        assert_eq!((size_of::<Original>(), align_of::<Original>()), (40, 8));
    }
}
