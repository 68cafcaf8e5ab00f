//! Sockets and namespaces: the only place that calls `setns`, sets marks and
//! opens sockets in a pod's namespace.

mod clock;
mod destroy;
mod diag;
mod namespace;
mod original;
mod socket;

pub use clock::{coarse_ns, monotonic_ns};
pub use destroy::{LiveSocket, SocketKind, destroy};
pub use diag::{TcpStatistics, tcp_connections, tcp_sockets, udp_sockets};
pub use namespace::Namespace;
pub use original::{Original, OriginalDestinations};
pub use socket::{
    SocketOptions, bytes_waiting, connect_tcp, connect_tcp_with, keep_alive, listen_tcp, receive,
    source_address, udp_socket, user_timeout,
};
