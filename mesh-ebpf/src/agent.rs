//! Is the agent there? Asked for every connection that would go to it.
//!
//! Two witnesses: its heartbeat, which a frozen agent misses, and its listener
//! in the caller's namespace, which the kernel closes the moment the agent
//! dies. The second needs no bookkeeping and no waiting; the agent's mark on
//! the listener keeps a program in the pod from posing as the agent.

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
    },
    programs::SockAddrContext,
};
use mesh_common::{
    address::Address, event::kind, frontend::UDP, reason::Reason, settings::Settings,
};

use crate::{
    context,
    maps::HEARTBEAT,
    report::{WAKE, report},
};

/// `BPF_F_CURRENT_NETNS`: look in the namespace of the socket.
const CURRENT_NETNS: u64 = u64::MAX;

/// Where the agent listens for sockets that asked for `destination`.
#[inline(always)]
pub fn listener(destination: &Address, port_be: u16) -> Address {
    if destination.is_v4() {
        Address::v4(0x7f00_0001_u32.to_be(), port_be)
    } else {
        Address::v6([0, 0, 0, 1_u32.to_be()], port_be)
    }
}

/// Whether the agent answers at this listener; why not, where it doesn't.
#[inline(always)]
pub fn answers(
    ctx: &SockAddrContext,
    settings: &Settings,
    listener: &Address,
    protocol: u8,
) -> Result<(), Reason> {
    let beat = HEARTBEAT.get(0).copied().unwrap_or(0);
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.saturating_sub(beat) > settings.stale_after_ns {
        return Err(Reason::AgentStale);
    }
    if listens(ctx, settings.mark, listener, protocol) {
        Ok(())
    } else {
        report_missing_listener(ctx);
        Err(Reason::NoListener)
    }
}

/// The agent lives but isn't in this namespace yet: it should come.
#[inline(always)]
fn report_missing_listener(ctx: &SockAddrContext) {
    let owner = context::owner(ctx);
    report(kind::NO_LISTENER, WAKE, |event| {
        event.pid = owner.pid;
        event.netns = owner.netns;
        event.cgroup = owner.cgroup;
    });
}

#[inline(always)]
fn listens(ctx: &SockAddrContext, mark: u32, listener: &Address, protocol: u8) -> bool {
    let (mut tuple, size) = if listener.is_v4() {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: listener.v4_be(),
            daddr: listener.v4_be(),
            sport: 0,
            dport: listener.port_be,
        };
        (
            bpf_sock_tuple__bindgen_ty_1 { ipv4 },
            size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>(),
        )
    } else {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: listener.ip_be,
            daddr: listener.ip_be,
            sport: 0,
            dport: listener.port_be,
        };
        (
            bpf_sock_tuple__bindgen_ty_1 { ipv6 },
            size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>(),
        )
    };
    let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
    // SAFETY: the tuple lives on this stack and is as long as said.
    let socket = unsafe {
        if protocol == UDP {
            bpf_sk_lookup_udp(ctx.as_ptr(), tuple, size as u32, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_tcp(ctx.as_ptr(), tuple, size as u32, CURRENT_NETNS, 0)
        }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and ours until released, which happens right here.
    unsafe {
        let found = (&raw const (*socket).mark).read_volatile();
        bpf_sk_release(socket.cast());
        found == mark
    }
}
