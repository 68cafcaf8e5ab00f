//! The life of a TCP connection that we redirected: SYN, established, closed.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock,
    },
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_ns},
    programs::SockOpsContext,
};
use mesh_common::{
    address::Address,
    backend::Backend,
    connection::Connection,
    event::{Event, kind},
    frontend::TCP,
    reason::Reason,
    socket::{Original, OriginalKey, Socket, route, stage},
};

use crate::{
    count, log,
    maps::{BACKENDS, CONNECTIONS, EVENTS, ORIGINALS, SERVICES},
    pace, storage,
};

const AF_INET: u32 = 2;
/// The agent drains the ring with its heartbeat; nobody is woken for a close.
const NO_WAKEUP: u64 = 1;

macro_rules! load {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands each program a valid context of this type.
        unsafe { (&raw const (*$ctx.ops).$($field)+).read_volatile() }
    };
}

#[inline(always)]
pub fn follow(ctx: &SockOpsContext) -> u32 {
    let op = load!(ctx, op);
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_RTT_CB
        && op != BPF_SOCK_OPS_STATE_CB
    {
        return 1;
    }
    // SAFETY: as in `load!`.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return 1;
    }
    match op {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            pace::accepted(ctx, sk, remote(ctx), client(ctx));
            return 1;
        }
        BPF_SOCK_OPS_RTT_CB => {
            pace::progress(ctx, sk);
            return 1;
        }
        BPF_SOCK_OPS_STATE_CB if load!(ctx, __bindgen_anon_1.args[1]) == BPF_TCP_CLOSE => {
            pace::closed(ctx, sk);
        }
        _ => {}
    }
    let Some(socket) = storage::get(sk) else { return 1 };
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => syn_sent(ctx, socket),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ctx, sk, socket),
        _ => {
            if load!(ctx, __bindgen_anon_1.args[1]) == BPF_TCP_CLOSE {
                closed(ctx, socket);
            }
        }
    }
    1
}

#[inline(always)]
fn syn_sent(ctx: &SockOpsContext, socket: &mut Socket) {
    // Without the flag no close is seen, and what is opened would never close.
    if ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32).is_err() {
        return;
    }
    // SAFETY: takes nothing.
    socket.opened_ns = unsafe { bpf_ktime_get_ns() };
    socket.stage = stage::SYN_SENT;
    if socket.route != route::BACKEND {
        return;
    }
    if let Some(service) = SERVICES.get_ptr_mut(socket.service) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).opened, 1) };
    }
    if let Some(backend) = backend(socket) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*backend).opened, 1) };
    }
}

/// Runs before the last packet of the handshake leaves, and so before the
/// agent can accept the connection: what is written here, it finds.
#[inline(always)]
fn established(ctx: &SockOpsContext, sk: *mut bpf_sock, socket: &mut Socket) {
    socket.stage = stage::ESTABLISHED;
    let client = client(ctx);
    if socket.route == route::BACKEND {
        pace::connected(ctx, sk, socket, client);
        let connection = Connection {
            client,
            original: socket.original,
            backend_address: socket.actual,
            service: socket.service,
            backend: socket.backend,
            pid: socket.pid,
            cgroup: socket.cgroup,
            netns: socket.netns,
            opened_ns: socket.opened_ns,
        };
        if CONNECTIONS.insert(cookie(ctx), connection, 0).is_err() {
            count::reason(Reason::ConnectionsFull);
        }
        return;
    }
    let original = Original {
        destination: socket.original,
        service: socket.service,
        cgroup: socket.cgroup,
        pid: socket.pid,
        zero: 0,
    };
    if ORIGINALS.insert(original_key(socket, client), original, 0).is_err() {
        count::reason(Reason::OriginalsFull);
        log::lost_original(ctx, &client);
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, socket: &mut Socket) {
    let reached = socket.stage;
    socket.stage = stage::CHOSEN;
    if reached == stage::CHOSEN {
        return;
    }
    if socket.route != route::BACKEND {
        // The agent removes it at accept; this is for what it never accepted.
        let _ = ORIGINALS.remove(original_key(socket, client(ctx)));
        return;
    }
    if let Some(service) = SERVICES.get_ptr_mut(socket.service) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).closed, 1) };
    }
    let failed = reached == stage::SYN_SENT;
    if failed {
        count::reason(Reason::ConnectFailed);
    } else {
        let _ = CONNECTIONS.remove(cookie(ctx));
    }
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let event = Event {
        kind: if failed { kind::FAILED } else { kind::CLOSED },
        pid: socket.pid,
        netns: socket.netns,
        cgroup: socket.cgroup,
        service: socket.service,
        backend: socket.backend,
        original: socket.original,
        backend_address: socket.actual,
        duration_ns: now.saturating_sub(socket.opened_ns),
        // The SYN counts as a byte acknowledged.
        bytes_sent: load!(ctx, bytes_acked).saturating_sub(1),
        bytes_received: load!(ctx, bytes_received),
        srtt_us: load!(ctx, srtt_us) >> 3,
        zero: 0,
    };
    if let Some(backend) = backend(socket) {
        // SAFETY: a live map value.
        unsafe { settle(backend, &event, failed) };
    }
    if EVENTS.output(event, NO_WAKEUP).is_err() {
        count::reason(Reason::EventsFull);
    }
}

/// # Safety
/// `backend` points into a live map value.
#[inline(always)]
unsafe fn settle(backend: *mut Backend, event: &Event, failed: bool) {
    // SAFETY: as the caller says.
    unsafe {
        count::add(&raw mut (*backend).closed, 1);
        if failed {
            count::add(&raw mut (*backend).failed, 1);
        } else {
            count::add(&raw mut (*backend).bytes_sent, event.bytes_sent);
            count::add(&raw mut (*backend).bytes_received, event.bytes_received);
            (*backend).srtt_us = event.srtt_us;
        }
    }
}

#[inline(always)]
fn backend(socket: &Socket) -> Option<*mut Backend> {
    BACKENDS.get_ptr_mut(socket.backend)
}

#[inline(always)]
fn original_key(socket: &Socket, client: Address) -> OriginalKey {
    OriginalKey { netns: socket.netns, client, protocol: TCP, zero: [0; 3] }
}

#[inline(always)]
fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: any sock_ops context is valid for this helper.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// The local address, as the agent sees its peer: v4 for a v4-mapped socket.
#[inline(always)]
fn client(ctx: &SockOpsContext) -> Address {
    // Both are read whatever the family: two reads in two branches are merged
    // into one at a computed offset, which the verifier forbids.
    let v4 = load!(ctx, local_ip4);
    let v6 = [
        load!(ctx, local_ip6[0]),
        load!(ctx, local_ip6[1]),
        load!(ctx, local_ip6[2]),
        load!(ctx, local_ip6[3]),
    ];
    let port_be = (load!(ctx, local_port) as u16).to_be();
    if load!(ctx, family) == AF_INET { Address::v4(v4, port_be) } else { Address::v6(v6, port_be) }
}

/// The other end's address, in the same form.
#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Address {
    let v4 = load!(ctx, remote_ip4);
    let v6 = [
        load!(ctx, remote_ip6[0]),
        load!(ctx, remote_ip6[1]),
        load!(ctx, remote_ip6[2]),
        load!(ctx, remote_ip6[3]),
    ];
    // The kernel hands out four bytes, of which the port is the last two.
    let port_be = (load!(ctx, remote_port) >> 16) as u16;
    if load!(ctx, family) == AF_INET { Address::v4(v4, port_be) } else { Address::v6(v6, port_be) }
}
