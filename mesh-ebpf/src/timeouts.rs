//! How long a socket waits for a dead peer: set on the socket itself, so that
//! the application's own `connect` and `write` fail in time.
//!
//! The kernel has one number for both phases, `TCP_USER_TIMEOUT`. It is the
//! service's connect timeout until the connection is established, and its user
//! timeout from then on. What the application set for itself counts where it
//! is shorter.

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_getsockopt, bpf_setsockopt},
};
use mesh_common::{policy::Policy, socket::Socket};

const IPPROTO_TCP: i32 = 6;
const TCP_USER_TIMEOUT: i32 = 18;

/// Before the SYN.
#[inline(always)]
pub fn before<C: EbpfContext>(ctx: &C, policy: Option<&Policy>, socket: &mut Socket) {
    let Some(policy) = policy.filter(|policy| policy.syn_timeout_ms > 0) else { return };
    let Some(own) = get(ctx) else { return };
    if is_longer(own, policy.syn_timeout_ms) && set(ctx, policy.syn_timeout_ms) {
        socket.own_timeout_ms = own;
        socket.syn_timeout_ms = policy.syn_timeout_ms;
    }
}

/// Once the connection is established.
#[inline(always)]
pub fn established<C: EbpfContext>(ctx: &C, policy: Option<&Policy>, socket: &Socket) {
    let Some(now) = get(ctx) else { return };
    let ours = socket.syn_timeout_ms != 0 && now == socket.syn_timeout_ms;
    // The application may have set one while it waited.
    let own = if ours { socket.own_timeout_ms } else { now };
    let service = policy.map_or(0, |policy| policy.user_timeout_ms);
    let wanted = if service > 0 && is_longer(own, service) { service } else { own };
    if wanted != now {
        set(ctx, wanted);
    }
}

/// The connection failed: the socket may be used for another.
#[inline(always)]
pub fn failed<C: EbpfContext>(ctx: &C, socket: &Socket) {
    if socket.syn_timeout_ms != 0 && get(ctx) == Some(socket.syn_timeout_ms) {
        set(ctx, socket.own_timeout_ms);
    }
}

/// 0 is the kernel's default, which is many minutes.
#[inline(always)]
const fn is_longer(own: u32, ours: u32) -> bool {
    own == 0 || own > ours
}

#[inline(always)]
fn get<C: EbpfContext>(ctx: &C) -> Option<u32> {
    let mut value = 0u32;
    // SAFETY: the value lives on this stack and is as long as said.
    let result = unsafe {
        bpf_getsockopt(
            ctx.as_ptr(),
            IPPROTO_TCP,
            TCP_USER_TIMEOUT,
            ptr::from_mut(&mut value).cast(),
            size_of::<u32>() as i32,
        )
    };
    (result == 0).then_some(value)
}

#[inline(always)]
fn set<C: EbpfContext>(ctx: &C, mut value: u32) -> bool {
    // SAFETY: as in `get`.
    unsafe {
        bpf_setsockopt(
            ctx.as_ptr(),
            IPPROTO_TCP,
            TCP_USER_TIMEOUT,
            ptr::from_mut(&mut value).cast(),
            size_of::<u32>() as i32,
        ) == 0
    }
}
