//! Congestion control between pods of one node, and between a pod and its agent.
//!
//! There is no network between them that others want a share of. But where a
//! node's sockets use BBR by default, which suits the networks beyond it, every
//! packet inside the node is paced by a timer too: that costs a tenth of all
//! requests. Such connections get the kernel's usual algorithm, at both ends,
//! before their first byte. Whatever else is set, by the node or by the
//! application, stays.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_getsockopt, bpf_setsockopt},
    programs::SockOpsContext,
};
use mesh_common::address::Address;

use crate::maps::NEIGHBOURS;

const IPPROTO_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
/// As long as the kernel's names may be.
type Name = [u8; 16];
const BBR: Name = *b"bbr\0\0\0\0\0\0\0\0\0\0\0\0\0";
const CUBIC: Name = *b"cubic\0\0\0\0\0\0\0\0\0\0\0";
/// No kernel is without it.
const RENO: Name = *b"reno\0\0\0\0\0\0\0\0\0\0\0\0";

/// Whether a captured pod of this node has this address.
#[inline(always)]
pub fn is_here(address: Address) -> bool {
    owner(address).is_some()
}

/// The network namespace of the captured pod of this node that has this address;
/// 0 where several have it.
#[inline(always)]
pub fn owner(mut address: Address) -> Option<u64> {
    address.port_be = 0;
    // SAFETY: copied at once.
    unsafe { NEIGHBOURS.get(address) }.copied()
}

/// To be called while the connection becomes established: later, BBR has set up
/// its pacing, which outlives it.
#[inline(always)]
pub fn stay_inside(ctx: &SockOpsContext) {
    let mut name = Name::default();
    // SAFETY: the name lives on this stack and is as long as said.
    let result = unsafe {
        bpf_getsockopt(
            ctx.as_ptr(),
            IPPROTO_TCP,
            TCP_CONGESTION,
            ptr::from_mut(&mut name).cast(),
            size_of::<Name>() as i32,
        )
    };
    if result == 0 && name[..4] == BBR[..4] && !set(ctx, CUBIC) {
        set(ctx, RENO);
    }
}

#[inline(always)]
fn set(ctx: &SockOpsContext, mut name: Name) -> bool {
    // SAFETY: as above.
    unsafe {
        bpf_setsockopt(
            ctx.as_ptr(),
            IPPROTO_TCP,
            TCP_CONGESTION,
            ptr::from_mut(&mut name).cast(),
            size_of::<Name>() as i32,
        ) == 0
    }
}
