//! The life of a TCP connection that we redirected: SYN, established, closed.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TIMEOUT_INIT,
        BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, bpf_sock,
    },
    helpers::bpf_ktime_get_ns,
    programs::SockOpsContext,
};
use mesh_common::{
    address::Address,
    backend::{Backend, cause},
    connection::{Connection, With},
    event::{Event, kind},
    frontend::TCP,
    policy::Policy,
    reason::Reason,
    socket::{Original, OriginalKey, Socket, route, stage},
};

use crate::{
    backend, bypass, congestion, context, count, eject,
    ends::{client, remote},
    log,
    maps::{CONNECTIONS, ORIGINALS, SERVICES},
    pace,
    report::{self, NO_WAKEUP, WAKE, report},
    storage, timeouts,
};

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
        && op != BPF_SOCK_OPS_TIMEOUT_INIT
    {
        return 1;
    }
    // Of a connection's states only the last one says anything.
    if op == BPF_SOCK_OPS_STATE_CB && load!(ctx, __bindgen_anon_1.args[1]) != BPF_TCP_CLOSE {
        return 1;
    }
    // SAFETY: as in `load!`.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return 1;
    }
    match op {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            let (client, instance) = (remote(ctx), client(ctx));
            if congestion::is_here(client) && congestion::is_here(instance) {
                congestion::stay_inside(ctx);
                bypass::accepted(ctx, client, instance);
            } else if instance.is_loopback() {
                // The agent's.
                bypass::accepted(ctx, client, instance);
            }
            pace::accepted(ctx, sk, client, instance);
            return 1;
        }
        BPF_SOCK_OPS_RTT_CB => {
            pace::progress(ctx, sk);
            if let Some(socket) = storage::get(sk) {
                probe_answered(ctx, socket);
            }
            return 1;
        }
        BPF_SOCK_OPS_STATE_CB => pace::closed(ctx, sk),
        _ => {}
    }
    let Some(socket) = storage::get(sk) else { return 1 };
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => syn_sent(ctx, socket),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ctx, sk, socket),
        BPF_SOCK_OPS_TIMEOUT_INIT => repeat_syn(ctx, socket),
        _ => closed(ctx, socket),
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
    if let Some(backend) = backend::backend(socket.backend) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*backend).opened, 1) };
    }
}

/// A probe that is to show answers has one, and its connection goes on.
#[inline(always)]
fn probe_answered(ctx: &SockOpsContext, socket: &mut Socket) {
    if socket.probe != 0
        && load!(ctx, bytes_received) > 0
        && let Some(backend) = backend::backend(socket.backend)
    {
        // SAFETY: takes nothing; and a live map value.
        unsafe { eject::answered(backend, socket, bpf_ktime_get_ns()) };
        socket.probe = 0;
    }
}

/// When the SYN is repeated for the first time: early enough for a few more
/// within the connect timeout. (Without this, after a second.)
#[inline(always)]
fn repeat_syn(ctx: &SockOpsContext, socket: &Socket) {
    if socket.syn_timeout_ms != 0
        && let Some(policy) = backend::policy(socket.service)
        && policy.syn_repeat_ticks > 0
    {
        ctx.set_reply(policy.syn_repeat_ticks);
    }
}

/// Runs before the last packet of the handshake leaves, and so before the
/// agent can accept the connection: what is written here, it finds.
#[inline(always)]
fn established(ctx: &SockOpsContext, sk: *mut bpf_sock, socket: &mut Socket) {
    socket.stage = stage::ESTABLISHED;
    let client = client(ctx);
    bypass::connected(ctx, socket, client, remote(ctx));
    if socket.route == route::UPSTREAM {
        return;
    }
    if socket.route != route::BACKEND || congestion::is_here(socket.actual) {
        congestion::stay_inside(ctx);
    }
    if socket.route == route::BACKEND {
        pace::connected(ctx, sk, socket, client);
        let connection = Connection {
            client,
            original: socket.original,
            backend_address: socket.actual,
            pid: socket.pid,
            with: With { service: socket.service, backend: socket.backend },
            cgroup: socket.cgroup,
            netns: socket.netns,
            opened_ns: socket.opened_ns,
        };
        if CONNECTIONS.insert(context::socket_cookie(ctx), connection, 0).is_err() {
            socket.stage = stage::UNLISTED;
            count::reason(Reason::ConnectionsFull);
        }
        timeouts::established(ctx, backend::policy(socket.service), socket);
        if let Some(backend) = backend::backend(socket.backend) {
            // SAFETY: takes nothing.
            let now = unsafe { bpf_ktime_get_ns() };
            let handshake = now.saturating_sub(socket.opened_ns);
            // SAFETY: a live map value.
            unsafe {
                (*backend).ewma = (*backend).ewma.observe(handshake, now);
                eject::connected(backend, socket, now);
            }
            if report::tapped(now) {
                report(kind::OPENED, WAKE, |event| {
                    describe(event, socket, client);
                    event.duration_ns = handshake;
                });
            }
            if socket.probe != 0 {
                // So that an answer is noticed before the connection ends.
                let flags = load!(ctx, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_RTT_CB_FLAG;
                let _ = ctx.set_cb_flags(flags as i32);
            }
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

/// What there is to say of a connection at its end.
struct Seen {
    duration_ns: u64,
    bytes_sent: u64,
    bytes_received: u64,
    srtt_us: u32,
    /// The client has sent something.
    asked: bool,
    /// The hooks that time answers have not seen all of it.
    past_tcp: bool,
}

impl Seen {
    #[inline(always)]
    fn read(ctx: &SockOpsContext, duration_ns: u64, past: [u64; 2]) -> Self {
        Self {
            duration_ns,
            // The SYN counts as a byte acknowledged.
            bytes_sent: load!(ctx, bytes_acked).saturating_sub(1) + past[0],
            bytes_received: load!(ctx, bytes_received) + past[1],
            asked: load!(ctx, data_segs_out) > 0 || past[0] > 0,
            past_tcp: past[0] > 0 || past[1] > 0,
            srtt_us: load!(ctx, srtt_us) >> 3,
        }
    }
}

/// Whose connection it is, and where it leads.
#[inline(always)]
fn describe(event: &mut Event, socket: &Socket, client: Address) {
    event.pid = socket.pid;
    event.netns = socket.netns;
    event.cgroup = socket.cgroup;
    event.service = socket.service;
    event.backend = socket.backend;
    event.original = socket.original;
    event.backend_address = socket.actual;
    event.client = client;
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, socket: &mut Socket) {
    let reached = socket.stage;
    socket.stage = stage::CHOSEN;
    if reached == stage::CHOSEN {
        return;
    }
    let past = bypass::closed(ctx, client(ctx), remote(ctx));
    if socket.route != route::BACKEND {
        if socket.route != route::UPSTREAM {
            // The agent removes it at accept; this is for what it never accepted.
            let _ = ORIGINALS.remove(original_key(socket, client(ctx)));
        }
        return;
    }
    let failed = reached == stage::SYN_SENT;
    let policy = backend::policy(socket.service);
    if failed {
        count::reason(Reason::ConnectFailed);
        timeouts::failed(ctx, socket);
    }
    // Who removes an entry takes its connection off the counts: this hook, or
    // the agent where it thought that no hook would come.
    let listed = reached == stage::ESTABLISHED;
    let first = CONNECTIONS.remove(context::socket_cookie(ctx)).is_ok() || !listed;
    if first && let Some(service) = SERVICES.get_ptr_mut(socket.service) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).closed, 1) };
    }
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let seen = Seen::read(ctx, now.saturating_sub(socket.opened_ns), past);
    if report::tapped(now) {
        let client = client(ctx);
        let broken = load!(ctx, __bindgen_anon_1.args[0]) == BPF_TCP_ESTABLISHED;
        report(if failed { kind::FAILED } else { kind::CLOSED }, NO_WAKEUP, |event| {
            describe(event, socket, client);
            event.duration_ns = seen.duration_ns;
            event.bytes_sent = seen.bytes_sent;
            event.bytes_received = seen.bytes_received;
            event.srtt_us = seen.srtt_us;
            event.reset = broken.into();
        });
    }
    if let Some(backend) = backend::backend(socket.backend) {
        // SAFETY: a live map value.
        let answers = unsafe { (*backend).answered } > 0;
        let failure = if failed {
            (!gave_up_early(socket, policy, &seen)).then_some(cause::CONNECT)
        } else {
            no_answer(ctx, socket, policy, &seen, answers)
        };
        // SAFETY: a live map value.
        unsafe {
            if first {
                count::add(&raw mut (*backend).closed, 1);
            }
            settle(backend, &seen, failed);
            if let Some(cause) = failure {
                eject::failed(backend, socket, policy, cause, now);
            } else if seen.bytes_received > 0 {
                count::add(&raw mut (*backend).answered, 1);
                eject::answered(backend, socket, now);
            }
        }
    }
}

/// Whether the client itself ended its attempt to connect before the SYN was
/// due again: that says nothing of the backend.
#[inline(always)]
fn gave_up_early(socket: &Socket, policy: Option<&Policy>, seen: &Seen) -> bool {
    // The SYN is repeated after each third of the connect timeout.
    const PATIENCE: u64 = 1_000_000 / 3;
    let timeout = policy.map_or(0, |policy| policy.syn_timeout_ms);
    socket.released != 0 && seen.duration_ns < u64::from(timeout) * PATIENCE
}

/// Whether the connection ended without the answer that its client waited for.
///
/// A reset, or packets that nobody acknowledged, take a connection from
/// established to closed at once, while the application still has its socket.
/// Otherwise it was the client that gave up (by `SO_LINGER` 0, even at once);
/// that counts where it waited for long, and for a backend that is known to
/// answer: some protocols only send.
#[inline(always)]
fn no_answer(
    ctx: &SockOpsContext,
    socket: &Socket,
    policy: Option<&Policy>,
    seen: &Seen,
    answers: bool,
) -> Option<u16> {
    let nothing_yet = seen.bytes_received == 0 && seen.asked;
    if !nothing_yet && (socket.asked_ns == 0 || seen.past_tcp) {
        return None;
    }
    let established = load!(ctx, __bindgen_anon_1.args[0]) == BPF_TCP_ESTABLISHED;
    if established && socket.released == 0 {
        return Some(cause::RESET);
    }
    let since = if socket.asked_ns == 0 { socket.opened_ns } else { socket.asked_ns };
    let waited = (socket.opened_ns + seen.duration_ns).saturating_sub(since);
    let limit = policy.map_or(0, |policy| policy.response_timeout_ns);
    (answers && limit > 0 && waited >= limit).then_some(cause::NO_ANSWER)
}

/// # Safety
/// `backend` points into a live map value.
#[inline(always)]
unsafe fn settle(backend: *mut Backend, seen: &Seen, failed: bool) {
    // SAFETY: as the caller says.
    unsafe {
        if failed {
            count::add(&raw mut (*backend).failed, 1);
        } else {
            count::add(&raw mut (*backend).bytes_sent, seen.bytes_sent);
            count::add(&raw mut (*backend).bytes_received, seen.bytes_received);
            (*backend).srtt_us = seen.srtt_us;
        }
    }
}

#[inline(always)]
fn original_key(socket: &Socket, client: Address) -> OriginalKey {
    OriginalKey { netns: socket.netns, client, protocol: TCP, zero: [0; 3] }
}
