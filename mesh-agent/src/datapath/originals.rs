//! The original destinations that the hooks wrote down.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use aya::maps::MapData;
use mesh_common::{
    address::Address,
    frontend::{TCP, UDP},
    socket::{Original as Entry, OriginalKey, Socket, route},
};

use super::sys;
use crate::net::{Original, OriginalDestinations};

/// Reads them straight from the kernel: no lock, one system call each.
#[derive(Debug)]
pub struct Originals {
    pub(super) connections: MapData,
    /// What sockets carry for the hooks.
    pub(super) sockets: MapData,
    pub(super) resolvers: aya::maps::HashMap<MapData, OriginalKey, Entry>,
}

impl OriginalDestinations for Originals {
    fn take(&self, netns_cookie: u64, client: SocketAddr) -> Option<Original> {
        let key = key(netns_cookie, client, TCP);
        match sys::take::<_, Entry>(self.connections.fd().as_fd(), &key) {
            Ok(entry) => entry.map(original),
            Err(error) => {
                tracing::error!(%error, "reading an original destination failed");
                None
            }
        }
    }

    fn resolver(
        &self,
        netns_cookie: u64,
        listener: SocketAddr,
        client_port: u16,
    ) -> Option<Original> {
        // The hook knows the client's port but not its address, so it writes
        // the listener's.
        let key = key(netns_cookie, SocketAddr::new(listener.ip(), client_port), UDP);
        self.resolvers.get(&key, 0).ok().map(original)
    }

    fn take_past_tcp(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let carried = Socket { route: route::UPSTREAM, ..Socket::default() };
        sys::put(self.sockets.fd().as_fd(), &socket.as_raw_fd(), &carried)
    }
}

fn key(netns: u64, client: SocketAddr, protocol: u8) -> OriginalKey {
    OriginalKey { netns, client: Address::from(client), protocol, zero: [0; 3] }
}

fn original(entry: Entry) -> Original {
    Original {
        destination: entry.destination.to_socket_addr(),
        cgroup: entry.cgroup,
        pid: entry.pid,
    }
}
