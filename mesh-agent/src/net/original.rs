//! Where a redirected connection was meant to go.
//!
//! A trait, because the proxy asks and the datapath knows, and neither may
//! import the other.

use std::{io, net::SocketAddr, os::fd::BorrowedFd};

/// The original destination of a redirected socket, and whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    pub destination: SocketAddr,
    /// Cgroup id of the client.
    pub cgroup: u64,
    pub pid: u32,
}

/// What is asked of the hooks: above all, the original destinations of
/// redirected sockets.
pub trait OriginalDestinations: Send + Sync + std::fmt::Debug {
    /// Of a TCP connection just accepted from `client` in this namespace.
    /// Answers once for each connection.
    fn take(&self, netns_cookie: u64, client: SocketAddr) -> Option<Original>;

    /// The resolver that queries received by `listener` from this client port
    /// were sent to.
    fn resolver(
        &self,
        netns_cookie: u64,
        listener: SocketAddr,
        client_port: u16,
    ) -> Option<Original>;

    /// Has the payload of a socket that is to be connected go past TCP, where it
    /// leads to a captured pod of this node.
    fn take_past_tcp(&self, _socket: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}
