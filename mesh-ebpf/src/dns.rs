//! Queries to port 53 go to the agent's DNS listener, which answers services'
//! hostnames and forwards the rest to the resolver that was asked for.
//!
//! The agent learns that resolver from the client's port. `connect` on a UDP
//! socket runs before the kernel chooses one, so the hook chooses it.

use core::{mem::size_of, ptr};

use aya_ebpf::{
    bindings::sockaddr,
    helpers::{bpf_get_prandom_u32, generated::bpf_bind},
    programs::SockAddrContext,
};
use mesh_common::{
    address::Address,
    connection::ReverseKey,
    frontend::UDP,
    reason::Reason,
    select,
    settings::Settings,
    socket::{Original, OriginalKey, route},
};

use crate::{
    agent,
    context::{self, Family},
    maps::{RESOLVERS, REVERSE},
    storage,
};

const PORT_BE: u16 = 53_u16.to_be();

#[inline(always)]
pub fn is_query(settings: &Settings, destination: &Address) -> bool {
    destination.port_be == PORT_BE && settings.dns_port_be != 0
}

/// Redirects a `connect` to port 53; `None` where no agent answers, and the
/// socket should go where it would without us.
#[inline(always)]
pub fn redirect_connect<F: Family>(
    ctx: &SockAddrContext,
    settings: &Settings,
    destination: &Address,
    protocol: u8,
) -> Option<Result<Reason, Reason>> {
    let listener = agent::listener(destination, settings.dns_port_be);
    agent::answers(ctx, settings, &listener, protocol).ok()?;
    if protocol == UDP {
        let port = match context::source_port(ctx) {
            0 => bind_any::<F>(ctx)?,
            port => port,
        };
        remember_resolver(ctx, destination, &listener, port);
    }
    let socket = match storage::make(context::socket(ctx)) {
        Ok(socket) => socket,
        Err(reason) => return Some(Err(reason)),
    };
    context::owner(ctx).write(socket);
    socket.route = route::DNS;
    socket.original = *destination;
    socket.actual = listener;
    F::write(ctx, &listener);
    Some(Ok(Reason::DnsRedirected))
}

/// Redirects one datagram to port 53; `false` where no agent answers.
#[inline(always)]
pub fn redirect_datagram<F: Family>(
    ctx: &SockAddrContext,
    settings: &Settings,
    destination: &Address,
) -> bool {
    let listener = agent::listener(destination, settings.dns_port_be);
    if agent::answers(ctx, settings, &listener, UDP).is_err() {
        return false;
    }
    // The kernel has given the socket a port before this hook runs.
    remember_resolver(ctx, destination, &listener, context::source_port(ctx));
    F::write(ctx, &listener)
}

/// Tells the agent where this port's queries were meant to go, and `recvmsg`
/// where their answers seem to come from.
#[inline(always)]
fn remember_resolver(ctx: &SockAddrContext, asked: &Address, listener: &Address, port: u16) {
    let owner = context::owner(ctx);
    let client = Address { port_be: port.to_be(), ..*listener };
    let key = OriginalKey { netns: owner.netns, client, protocol: UDP, zero: [0; 3] };
    let original =
        Original { destination: *asked, service: 0, cgroup: owner.cgroup, pid: owner.pid, zero: 0 };
    // LRU maps make room for themselves. Should one fail, the agent answers
    // SERVFAIL and the client asks again or elsewhere.
    let _ = RESOLVERS.insert(key, original, 0);
    let reverse = ReverseKey { cookie: context::socket_cookie(ctx), from: *listener, zero: 0 };
    let _ = REVERSE.insert(reverse, *asked, 0);
}

/// Binds the socket to a free port of any address and returns the port.
/// Binding to the wildcard leaves a later `connect` elsewhere free to choose
/// its source address.
#[inline(always)]
fn bind_any<F: Family>(ctx: &SockAddrContext) -> Option<u16> {
    const FIRST: u32 = 32_768;
    const COUNT: u32 = 28_000;
    for _ in 0..8 {
        // SAFETY: takes nothing.
        let port = (FIRST + select::scale(unsafe { bpf_get_prandom_u32() }, COUNT)) as u16;
        if bind::<F>(ctx, port) {
            return Some(port);
        }
    }
    crate::count::reason(Reason::NoSourcePort);
    None
}

#[inline(always)]
fn bind<F: Family>(ctx: &SockAddrContext, port: u16) -> bool {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    // `sockaddr_in` (16 bytes) and `sockaddr_in6` (28) begin alike: family,
    // port; zeros behind them are the wildcard address.
    let mut address = [0u16; 14];
    let length = if F::IS_V4 { 16 } else { size_of::<[u16; 14]>() };
    address[0] = if F::IS_V4 { AF_INET } else { AF_INET6 };
    address[1] = port.to_be();
    // SAFETY: the address lives on this stack and is as long as said.
    unsafe {
        bpf_bind(ctx.sock_addr, ptr::from_mut(&mut address).cast::<sockaddr>(), length as i32) == 0
    }
}
