//! How sources are reached: from the agent's own namespace, with its mark, so
//! that the hooks leave these sockets alone.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::{TcpStream, UdpSocket};

use crate::net::{Namespace, SocketOptions, connect_tcp, udp_socket};

#[derive(Clone, Debug)]
pub(super) struct Sockets {
    namespace: Arc<Namespace>,
    options: SocketOptions,
}

impl Sockets {
    pub fn new(options: SocketOptions) -> io::Result<Self> {
        Ok(Self { namespace: Arc::new(Namespace::current()?), options })
    }

    pub async fn tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        connect_tcp(&self.namespace, address, self.options).await
    }

    /// A UDP socket that hears nobody but `address`, on a fresh random port.
    pub async fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        use std::net::{Ipv4Addr, Ipv6Addr};
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = udp_socket(&self.namespace, any, self.options)?;
        socket.connect(address).await?;
        Ok(socket)
    }
}
