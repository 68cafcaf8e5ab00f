//! Between two captured sockets of one node, payload goes from socket to socket
//! and past TCP, where the service's policy says so. Handshake, FIN and RST stay
//! TCP's.
//!
//! Nothing is overtaken: a direction is bypassed from its first byte or not at
//! all, and once it has gone over to TCP it stays there. The client's end leaves
//! a note before the last packet of the handshake, and the instance's end finds
//! it; a client that sends before the instance has joined takes the note back,
//! and then neither is bypassed.
//!
//! Nothing can make a sender past TCP wait. So it is looked at, now and then,
//! how much the receiver has not read, and a direction that is too far ahead goes
//! over to TCP. So does one that began there: who sends before the handshake ends
//! (TCP Fast Open, or a `send` that waits for it) isn't seen here.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_INGRESS, BPF_TCP_CLOSE_WAIT, BPF_TCP_ESTABLISHED, sk_msg_md},
    helpers::{
        bpf_map_delete_elem, bpf_msg_redirect_hash, bpf_probe_read_kernel, bpf_sock_hash_update,
    },
    programs::{SkMsgContext, SockOpsContext},
};
use mesh_common::{
    address::Address,
    bypass::{Counts, LOOK_AFTER, OVER, Pair, PairKey, UNREAD, end, state},
    policy::flag,
    socket::{Socket, route},
};

use crate::{
    backend, congestion, context, count,
    maps::{ENDPOINTS, PAIRS, SETTINGS},
};

const AF_INET: u32 = 2;
/// Let it go where it is sent to.
const PASS: u32 = 1;

macro_rules! load {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands each program a valid context of this type.
        unsafe { (&raw const (*$ctx.ops).$($field)+).read_volatile() }
    };
}

/// A connection is established, at the client's end.
#[inline(always)]
pub fn connected(ctx: &SockOpsContext, carried: &Socket, client: Address, other: Address) {
    let wanted = carried.route == route::UPSTREAM
        || backend::policy(carried.service).is_some_and(|policy| policy.flags & flag::BYPASS != 0);
    // A probe is to show answers, which TCP sees.
    if !wanted || carried.probe != 0 || counts().is_none() {
        return;
    }
    if carried.route != route::PROXY && !(congestion::is_here(other) && owns(ctx, client)) {
        return;
    }
    let key = both(ctx, client, other);
    let cookie = context::socket_cookie(ctx);
    // The agent's sockets may be seen twice: by a hook on its cgroup, and by one
    // above. The map takes a socket once.
    // SAFETY: looked at at once.
    let before = unsafe { PAIRS.get(key) };
    if before.is_some_and(|before| before.cookies[end::CLIENT] == cookie) {
        return;
    }
    let pair = Pair {
        cookies: [cookie, 0],
        sockets: [itself(ctx), 0],
        numbers: [load!(ctx, snd_nxt), load!(ctx, rcv_nxt)],
        route: carried.route.into(),
        ..Pair::default()
    };
    if PAIRS.insert(key, pair, 0).is_err() {
        return;
    }
    if !put(ctx, cookie) {
        let _ = PAIRS.remove(key);
    }
}

/// A connection is established, at the instance's end.
#[inline(always)]
pub fn accepted(ctx: &SockOpsContext, client: Address, instance: Address) {
    if counts().is_none() {
        return;
    }
    let key = both(ctx, client, instance);
    let Some(pair) = PAIRS.get_ptr_mut(key) else { return };
    // SAFETY: a live map value.
    let numbers = unsafe { (&raw const (*pair).numbers).read_volatile() };
    if numbers[0] != load!(ctx, rcv_nxt) || numbers[1] != load!(ctx, snd_nxt) {
        return;
    }
    if !instance.is_loopback() && !owns(ctx, instance) {
        return;
    }
    let cookie = context::socket_cookie(ctx);
    // SAFETY: a live map value.
    unsafe {
        (&raw mut (*pair).cookies[end::INSTANCE]).write_volatile(cookie);
        (&raw mut (*pair).sockets[end::INSTANCE]).write_volatile(itself(ctx));
    }
    let joined = put(ctx, cookie);
    let next = if joined { state::JOINED } else { state::TCP };
    // SAFETY: a live map value.
    let before = unsafe { count::replace(&raw mut (*pair).state, state::WAITING, next) };
    // Nobody has this socket yet, so that it may leave. The client's stays: one
    // that leaves loses what it has not read, and who waits in `recv` gets EAGAIN.
    if before == state::TCP {
        take(cookie);
    }
}

/// The client's end is closed; returns what went past TCP, both ways.
#[inline(always)]
pub fn closed(ctx: &SockOpsContext, client: Address, other: Address) -> [u64; 2] {
    if counts().is_none() {
        return [0; 2];
    }
    let key = both(ctx, client, other);
    // SAFETY: copied at once.
    let Some(pair) = (unsafe { PAIRS.get(key) }) else { return [0; 2] };
    let (cookies, bytes) = (pair.cookies, pair.bytes);
    if cookies[end::CLIENT] != context::socket_cookie(ctx) {
        return [0; 2];
    }
    let _ = PAIRS.remove(key);
    bytes
}

/// Something came by TCP to a bypassed socket: it waits in the same queue as
/// what came past it, so that both are read in order and counted by `FIONREAD`.
#[inline(always)]
pub fn received() -> u32 {
    PASS
}

/// A message of a bypassed socket.
#[inline(always)]
pub fn send(ctx: &SkMsgContext) -> u32 {
    redirect(ctx);
    // To the other end where that was named, else by TCP.
    PASS
}

#[inline(always)]
fn redirect(ctx: &SkMsgContext) -> Option<()> {
    let msg = ctx.msg;
    let (local, remote) = ends(msg);
    let mut from = end::CLIENT;
    let pair = PAIRS.get_ptr_mut(both(ctx, local, remote)).or_else(|| {
        from = end::INSTANCE;
        PAIRS.get_ptr_mut(both(ctx, remote, local))
    })?;
    // SAFETY: a live map value.
    let found = unsafe { count::replace(&raw mut (*pair).state, state::WAITING, state::TCP) };
    if found != state::JOINED || !may_send(msg) {
        return None;
    }
    // SAFETY: a context of this type.
    let size = u64::from(unsafe { (&raw const (*msg).size).read_volatile() });
    if !stays_near(pair, from, size) {
        return None;
    }
    // SAFETY: a live map value.
    let [client, instance] = unsafe { (*pair).cookies };
    let mut to = if from == end::CLIENT { instance } else { client };
    // SAFETY: the context, the map and the key are what the helper takes.
    unsafe {
        bpf_msg_redirect_hash(
            msg,
            (&raw const ENDPOINTS).cast_mut().cast(),
            (&raw mut to).cast(),
            BPF_F_INGRESS.into(),
        )
    };
    Some(())
}

/// Counts what is sent, and says whether it may go past TCP. The socket's lock
/// is held: there is one sender for each direction.
#[inline(always)]
fn stays_near(pair: *mut Pair, from: usize, size: u64) -> bool {
    // SAFETY: a live map value; both indices are below two.
    unsafe {
        let [one, other] = (*pair).sockets;
        let (unlooked, bytes, sender, receiver) = if from == end::CLIENT {
            (&raw mut (*pair).unlooked[0], &raw mut (*pair).bytes[0], one, other)
        } else {
            (&raw mut (*pair).unlooked[1], &raw mut (*pair).bytes[1], other, one)
        };
        let mut sent = unlooked.read_volatile();
        if sent == OVER {
            return false;
        }
        let first = bytes.read_volatile() == 0;
        let looks = sent + size > LOOK_AFTER;
        if first || looks {
            let over = counts().is_none_or(|counts| {
                (first && has_begun(sender, counts)) || (looks && is_behind(receiver, counts))
            });
            if over {
                unlooked.write_volatile(OVER);
                return false;
            }
            if looks {
                sent = 0;
            }
        }
        unlooked.write_volatile(sent + size);
        *bytes += size;
    }
    true
}

/// Whether this socket's namespace is the one that has this address: anybody may
/// give itself any address in a namespace of its own.
#[inline(always)]
fn owns(ctx: &SockOpsContext, address: Address) -> bool {
    congestion::owner(address) == Some(context::netns_cookie(ctx))
}

/// Where sockets count their bytes; `None` where nothing is to go past TCP.
#[inline(always)]
fn counts() -> Option<&'static Counts> {
    SETTINGS.get(0).map(|settings| &settings.counts).filter(|counts| counts.unread > 0)
}

/// Whether TCP was given anything to send.
#[inline(always)]
fn has_begun(socket: u64, counts: &Counts) -> bool {
    let [sent, written, next] =
        [counts.sent, counts.written, counts.next].map(|offset| look(socket, offset));
    sent != Some(0) || written != next
}

/// Whether a socket has too much to read.
#[inline(always)]
fn is_behind(socket: u64, counts: &Counts) -> bool {
    look(socket, counts.unread).is_none_or(|unread| unread > UNREAD)
}

/// What one of the kernel's sockets counts.
#[inline(always)]
fn look(socket: u64, offset: u32) -> Option<u32> {
    let at = socket + u64::from(offset);
    // SAFETY: what can't be read is an error, and what is there may be anything.
    unsafe { bpf_probe_read_kernel(at as *const u32) }.ok()
}

/// The key of what both ends share. Loopback addresses are different ones in each
/// namespace.
#[inline(always)]
fn both(ctx: &impl EbpfContext, client: Address, instance: Address) -> PairKey {
    let netns = if instance.is_loopback() { context::netns_cookie(ctx) } else { 0 };
    PairKey { client, instance, netns }
}

/// After its own FIN a socket can't send, which TCP tells it.
#[inline(always)]
fn may_send(msg: *mut sk_msg_md) -> bool {
    // SAFETY: a context of this type; its socket may be null.
    let state = unsafe {
        let sk = (*msg).__bindgen_anon_3.sk;
        if sk.is_null() {
            return false;
        }
        (&raw const (*sk).state).read_volatile()
    };
    state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT
}

/// The sender's own address, and the other end's.
#[inline(always)]
fn ends(msg: *mut sk_msg_md) -> (Address, Address) {
    macro_rules! read {
        ($($field:tt)+) => {
            // SAFETY: a context of this type.
            unsafe { (&raw const (*msg).$($field)+).read_volatile() }
        };
    }
    let (local4, remote4) = (read!(local_ip4), read!(remote_ip4));
    let local6 =
        [read!(local_ip6[0]), read!(local_ip6[1]), read!(local_ip6[2]), read!(local_ip6[3])];
    let remote6 =
        [read!(remote_ip6[0]), read!(remote_ip6[1]), read!(remote_ip6[2]), read!(remote_ip6[3])];
    let local_port = (read!(local_port) as u16).to_be();
    let remote_port = (read!(remote_port) >> 16) as u16;
    if read!(family) == AF_INET {
        (Address::v4(local4, local_port), Address::v4(remote4, remote_port))
    } else {
        (Address::v6(local6, local_port), Address::v6(remote6, remote_port))
    }
}

/// The kernel's socket of this context.
#[inline(always)]
fn itself(ctx: &SockOpsContext) -> u64 {
    load!(ctx, __bindgen_anon_2.sk) as u64
}

/// Puts the socket of this context among the bypassed.
#[inline(always)]
fn put(ctx: &SockOpsContext, mut cookie: u64) -> bool {
    // SAFETY: the context, the map and the key are what the helper takes.
    unsafe {
        bpf_sock_hash_update(
            ctx.as_ptr().cast(),
            (&raw const ENDPOINTS).cast_mut().cast(),
            (&raw mut cookie).cast(),
            0,
        ) == 0
    }
}

#[inline(always)]
fn take(mut cookie: u64) {
    // SAFETY: the map and the key are what the helper takes. (One that is gone
    // already is as good.)
    unsafe {
        bpf_map_delete_elem((&raw const ENDPOINTS).cast_mut().cast(), (&raw mut cookie).cast())
    };
}
