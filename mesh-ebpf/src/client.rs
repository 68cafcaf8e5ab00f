//! Who connects, as far as picking goes: the workload, and what it is hashed by.

use aya_ebpf::programs::SockAddrContext;
use mesh_common::hash;

use crate::{
    context::{self, Family},
    maps::CLIENTS,
    pick::Client,
};

/// The source address where the socket is bound to one; else the address of
/// its pod, which is the same for all of its sockets and stays the same when
/// the pod's namespace is made anew.
#[inline(always)]
pub fn client<F: Family>(ctx: &SockAddrContext) -> Client {
    let netns = context::netns_cookie(ctx);
    let hash = match F::source(ctx) {
        Some(bound) => hash::ip(bound.ip_be),
        // SAFETY: copied at once; the agent replaces it whole.
        None => match unsafe { CLIENTS.get(netns) } {
            Some(address) => hash::ip(address.ip_be),
            None => hash::mix(netns),
        },
    };
    Client { netns, hash }
}
