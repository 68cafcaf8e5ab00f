//! Bandwidth: sockets of a limited service are paced by the kernel, each to
//! its share of what the group may send, and correct that share themselves.
//!
//! What clients send is paced on the client's socket. What instances send is
//! paced on the accepted socket, where the instance is captured here as well:
//! the client's end leaves a note under both addresses, before the last packet
//! of the handshake, and the instance's end finds it. So it is known whose
//! connection it is, and connections that come from elsewhere stay untouched.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock, bpf_sock_ops},
    helpers::{
        bpf_ktime_get_ns, bpf_setsockopt,
        generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
    },
    programs::SockOpsContext,
};
use mesh_common::{
    address::Address,
    pace::{self, EndsKey, Group, GroupKey, Paced, direction},
    policy::{Policy, flag},
    socket::Socket,
};

use crate::{
    count,
    maps::{ENDS, GROUPS, PACED, POLICIES},
};

const SOL_SOCKET: i32 = 1;
const SO_MAX_PACING_RATE: i32 = 47;
const SOL_TCP: i32 = 6;
/// Sets a bound on the congestion window, in packets.
const TCP_BPF_SNDCWND_CLAMP: i32 = 1002;
/// Sets the first congestion window, in packets.
const TCP_BPF_IW: i32 = 1001;
/// The kernel's own.
const INITIAL_WINDOW: u32 = 10;
/// Not paced at all.
const UNLIMITED: u32 = u32::MAX;

macro_rules! load {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands each program a valid context of this type.
        unsafe { (&raw const (*$ctx.ops).$($field)+).read_volatile() }
    };
}

/// A connection of the kernel path is established, at the client's end.
#[inline(always)]
pub fn connected(ctx: &SockOpsContext, sk: *mut bpf_sock, socket: &Socket, client: Address) {
    let Some(policy) = POLICIES.get_ptr(socket.service) else { return };
    // SAFETY: a live map value.
    let policy = unsafe { &*policy };
    let netns = if policy.flags & flag::BANDWIDTH_BY_CLIENT != 0 { socket.netns } else { 0 };
    let group = |direction| GroupKey { netns, service: socket.service, direction, zero: [0; 3] };
    if policy.download > 0 {
        let ends = EndsKey { client, instance: socket.actual };
        // Where even an LRU map has no room, this one isn't paced.
        let _ = ENDS.insert(ends, group(direction::DOWNLOAD), 0);
    }
    if policy.upload > 0 {
        join(ctx, sk, group(direction::UPLOAD), policy.upload);
    }
}

/// A connection is established, at the instance's end.
#[inline(always)]
pub fn accepted(ctx: &SockOpsContext, sk: *mut bpf_sock, client: Address, instance: Address) {
    let ends = EndsKey { client, instance };
    // SAFETY: copied at once; written once for each connection.
    let Some(group) = unsafe { ENDS.get(ends) }.copied() else { return };
    let _ = ENDS.remove(ends);
    if let Some(limit) = limit(&group) {
        join(ctx, sk, group, limit);
    }
}

/// Something was acknowledged, a round trip after the last time.
#[inline(always)]
pub fn progress(ctx: &SockOpsContext, sk: *mut bpf_sock) {
    let Some(paced) = storage(sk, None) else { return };
    let Some(limit) = limit(&paced.group) else {
        set_rate(ctx, paced, u64::from(UNLIMITED));
        return;
    };
    let Some(group) = group(&paced.group, limit) else { return };
    take_in(ctx, paced, group, limit);
    // SAFETY: a live map value.
    let share = unsafe { (&raw const (*group).share).read_volatile() };
    set_rate(ctx, paced, share);
}

#[inline(always)]
pub fn closed(ctx: &SockOpsContext, sk: *mut bpf_sock) {
    let Some(paced) = storage(sk, None) else { return };
    if let Some(limit) = limit(&paced.group)
        && let Some(group) = group(&paced.group, limit)
    {
        take_in(ctx, paced, group, limit);
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*group).members, u64::MAX) };
    }
    // SAFETY: as in `storage`.
    unsafe { bpf_sk_storage_delete((&raw const PACED).cast_mut().cast(), sk.cast()) };
}

#[inline(always)]
fn join(ctx: &SockOpsContext, sk: *mut bpf_sock, key: GroupKey, limit: u64) {
    // The SYN counts as a byte acknowledged.
    let acked = load!(ctx, bytes_acked);
    let Some(paced) = storage(sk, Some(Paced { group: key, acked, rate: 0 })) else { return };
    let Some(group) = group(&key, limit) else { return };
    let flags =
        load!(ctx, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;
    if ctx.set_cb_flags(flags as i32).is_err() {
        return;
    }
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a live map value.
    let rate = unsafe {
        count::add(&raw mut (*group).members, 1);
        pace::first(limit, &*group, now.saturating_sub((*group).started_ns))
    };
    set_rate(ctx, paced, rate);
    // The first packets of a connection leave unpaced, as many as this.
    let mut packets = pace::window(rate, 0, load!(ctx, mss_cache)).min(INITIAL_WINDOW);
    set(ctx, SOL_TCP, TCP_BPF_IW, &mut packets);
}

/// Counts what this socket moved since the last time, and closes the round
/// where it is over.
#[inline(always)]
fn take_in(ctx: &SockOpsContext, paced: &mut Paced, group: *mut Group, limit: u64) {
    let acked = load!(ctx, bytes_acked);
    let moved = acked.saturating_sub(paced.acked);
    paced.acked = acked;
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a live map value.
    unsafe {
        count::add(&raw mut (*group).total, moved);
        let bytes = count::add(&raw mut (*group).bytes, moved) + moved;
        let started = (&raw const (*group).started_ns).read_volatile();
        let elapsed = now.saturating_sub(started);
        let share = (&raw const (*group).share).read_volatile();
        if pace::is_over(limit, share, elapsed, bytes)
            && count::replace(&raw mut (*group).started_ns, started, now) == started
        {
            // Only the one that replaced it is here.
            count::add(&raw mut (*group).bytes, 0_u64.wrapping_sub(bytes));
            let (share, excess) = pace::next(limit, &*group, bytes, elapsed);
            (*group).share = share;
            (*group).excess = excess;
        }
    }
}

#[inline(always)]
fn set_rate(ctx: &SockOpsContext, paced: &mut Paced, rate: u64) {
    if paced.rate == rate {
        return;
    }
    paced.rate = rate;
    let mut value = rate.min(u64::from(UNLIMITED)) as u32;
    set(ctx, SOL_SOCKET, SO_MAX_PACING_RATE, &mut value);
    let mut packets = pace::window(rate, load!(ctx, srtt_us) >> 3, load!(ctx, mss_cache));
    set(ctx, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, &mut packets);
}

#[inline(always)]
fn set(ctx: &SockOpsContext, level: i32, name: i32, value: &mut u32) {
    // SAFETY: the context is of a full socket in the ops that come here.
    unsafe {
        bpf_setsockopt(
            ctx.ops.cast::<bpf_sock_ops>().cast(),
            level,
            name,
            (&raw mut *value).cast(),
            4,
        )
    };
}

#[inline(always)]
fn limit(group: &GroupKey) -> Option<u64> {
    let policy: *const Policy = POLICIES.get_ptr(group.service)?;
    // SAFETY: a live map value.
    let policy = unsafe { &*policy };
    let limit =
        if group.direction == direction::DOWNLOAD { policy.download } else { policy.upload };
    (limit > 0).then_some(limit)
}

/// The group, made where it is not there (yet, or any more).
#[inline(always)]
fn group(key: &GroupKey, limit: u64) -> Option<*mut Group> {
    if let Some(found) = GROUPS.get_ptr_mut(*key) {
        return Some(found);
    }
    // SAFETY: takes nothing.
    let started_ns = unsafe { bpf_ktime_get_ns() };
    let new = Group { started_ns, share: limit, ..Group::default() };
    const NO_EXIST: u64 = 1;
    // Another connection may have been first.
    let _ = GROUPS.insert(*key, new, NO_EXIST);
    GROUPS.get_ptr_mut(*key)
}

/// What a socket carries; with `new`, made where it carries nothing.
#[inline(always)]
fn storage<'a>(sk: *mut bpf_sock, new: Option<Paced>) -> Option<&'a mut Paced> {
    let mut new = new;
    let (value, flags) = match &mut new {
        Some(value) => (core::ptr::from_mut(value).cast(), 1),
        None => (core::ptr::null_mut(), 0),
    };
    // SAFETY: the socket comes from a context, the map is a socket storage, and
    // what comes back is null or lives as long as the program runs.
    unsafe {
        bpf_sk_storage_get((&raw const PACED).cast_mut().cast(), sk.cast(), value, flags)
            .cast::<Paced>()
            .as_mut()
    }
}
