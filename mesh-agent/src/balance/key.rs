//! Hashes of instances and clients that all nodes agree on.

use std::net::{IpAddr, SocketAddr};

use mesh_common::{address::Address, hash};

/// Of an instance: decides which keys are its own.
pub fn instance(address: SocketAddr) -> u64 {
    hash::address(&Address::from(address))
}

/// Of a client's address: the key of `hashOn: source`, as the kernel has it.
pub fn source(address: IpAddr) -> u64 {
    hash::ip(Address::from(SocketAddr::new(address, 0)).ip_be)
}

/// Of a header's or cookie's value, or a path.
pub fn text(bytes: &[u8]) -> u64 {
    hash::text(bytes)
}

/// Of a client's workload, by the cookie of its namespace.
pub fn workload(cookie: u64) -> u64 {
    hash::mix(cookie)
}
