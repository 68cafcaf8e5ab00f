//! Which backend a UDP socket counts with: the one that it dealt with last,
//! from its first dealing until it is closed. Connected or not, it is one open
//! connection in all.

use aya_ebpf::{
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::SockAddrContext,
};
use mesh_common::{
    address::Address,
    connection::{Connection, With},
    reason::Reason,
};

use crate::{
    backend, context, count,
    maps::{CONNECTIONS, SERVICES},
};

/// The socket sends to this backend, or connects to it.
#[inline(always)]
pub fn deals_with(ctx: &SockAddrContext, with: With, original: &Address) {
    let cookie = context::socket_cookie(ctx);
    if let Some(known) = CONNECTIONS.get_ptr(cookie)
        // SAFETY: a live map value: the socket is open, hence nobody removes it.
        && unsafe { (*known).with } == with
    {
        return;
    }
    if mesh_deal(cookie, with.service, with.backend, context::netns_cookie(ctx)) != 0
        && let Some(made) = CONNECTIONS.get_ptr_mut(cookie)
    {
        // SAFETY: as above.
        unsafe { (*made).original = *original };
    }
}

/// Counts the socket with this backend, and no longer with the one before; 0
/// where another thread, or a full map, was in the way.
///
/// A function of its own, with nothing but numbers coming in, is verified once
/// and not for every path that leads to it; and what it lists doesn't fit on
/// the stack of those who call it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_deal(cookie: u64, service: u32, backend: u32, netns: u64) -> u32 {
    let with = With { service, backend };
    let Some(chosen) = backend::backend(backend) else { return 0 };
    // SAFETY: a live map value, whose address never changes.
    let backend_address = unsafe { (*chosen).address };
    if let Some(known) = CONNECTIONS.get_ptr_mut(cookie) {
        // SAFETY: as in `deals_with`.
        unsafe {
            let word = (&raw mut (*known).with).cast::<u64>();
            let before = word.read_volatile();
            // Of two threads that send at a time, one moves the socket.
            if before == with.word() || count::replace(word, before, with.word()) != before {
                return 0;
            }
            (*known).backend_address = backend_address;
            closed(With::of(before));
        }
        opened(with);
        return 1;
    }
    // SAFETY: these helpers take nothing.
    let (pid, cgroup, opened_ns) = unsafe {
        let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (pid, bpf_get_current_cgroup_id(), bpf_ktime_get_ns())
    };
    let nobody = Address { ip_be: [0; 4], port_be: 0, zero: 0 };
    let connection = Connection {
        client: nobody,
        original: nobody,
        backend_address,
        pid,
        with,
        cgroup,
        netns,
        opened_ns,
    };
    const NOT_OVER_ANOTHER: u64 = 1;
    if CONNECTIONS.insert(cookie, connection, NOT_OVER_ANOTHER).is_err() {
        count::reason(Reason::ConnectionsFull);
        return 0;
    }
    opened(with);
    1
}

/// The application has closed the socket.
#[inline(always)]
pub fn released(cookie: u64) {
    let Some(known) = CONNECTIONS.get_ptr(cookie) else { return };
    // SAFETY: a live map value.
    let with = unsafe { (*known).with };
    // The agent may have thought that no hook would come.
    if CONNECTIONS.remove(cookie).is_ok() {
        closed(with);
    }
}

#[inline(always)]
fn opened(with: With) {
    if let Some(service) = SERVICES.get_ptr_mut(with.service) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).opened, 1) };
    }
    if let Some(backend) = backend::backend(with.backend) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*backend).opened, 1) };
    }
}

#[inline(always)]
fn closed(with: With) {
    if let Some(service) = SERVICES.get_ptr_mut(with.service) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).closed, 1) };
    }
    if let Some(backend) = backend::backend(with.backend) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*backend).closed, 1) };
    }
}
