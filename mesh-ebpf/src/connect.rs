//! `connect`: the whole decision for TCP, and for connected UDP.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::SockAddrContext};
use mesh_common::{
    address::Address,
    connection::{ReverseKey, With},
    event::kind,
    frontend::{Frontend, FrontendKey, UDP, on_agent_failure, path},
    policy::Policy,
    reason::Reason,
    service::Service,
    socket::{Socket, route},
};

use crate::{
    agent, backend,
    client::client,
    context::{self, Family, Verdict},
    count, dns, limit, log,
    maps::{REVERSE, SETTINGS},
    pick,
    report::{self, WAKE, report},
    scope, storage, timeouts, udp,
};

#[inline(always)]
pub fn decide<F: Family>(ctx: &SockAddrContext) -> Verdict {
    match try_decide::<F>(ctx) {
        Ok(reason) => {
            count::reason(reason);
            Verdict::Proceed
        }
        Err(reason) => {
            count::reason(reason);
            // What stands there belongs to a connection that isn't made.
            storage::clear(context::socket(ctx));
            let destination = F::read(ctx);
            log::refused(ctx, &destination, reason);
            tell(ctx, &destination, reason);
            Verdict::Refuse(context::errno(reason))
        }
    }
}

/// Tells those who watch that a call was refused.
#[inline(always)]
fn tell(ctx: &SockAddrContext, destination: &Address, reason: Reason) {
    // SAFETY: takes nothing.
    if !report::tapped(unsafe { bpf_ktime_get_ns() }) {
        return;
    }
    let owner = context::owner(ctx);
    report(kind::REFUSED, WAKE, |event| {
        event.pid = owner.pid;
        event.netns = owner.netns;
        event.cgroup = owner.cgroup;
        event.original = *destination;
        event.reason = reason as u32;
    });
}

/// Why the socket goes on (the address is rewritten by then), or is refused.
#[inline(always)]
fn try_decide<F: Family>(ctx: &SockAddrContext) -> Result<Reason, Reason> {
    let Some(settings) = SETTINGS.get(0) else { return Ok(Reason::NotAService) };
    let destination = F::read(ctx);
    let protocol = context::protocol(ctx);
    // What the agent's sockets carry, it has written itself.
    if scope::is_agents(ctx, settings) {
        return Ok(Reason::AgentSocket);
    }
    // A socket may connect more than once; what it was before is over.
    storage::clear(context::socket(ctx));
    if let Some(reason) = scope::left_alone(ctx, settings) {
        return Ok(reason);
    }
    if dns::is_query(settings, &destination) {
        if let Some(verdict) = dns::redirect_connect::<F>(ctx, settings, &destination, protocol) {
            return verdict;
        }
        count::reason(Reason::DnsPassed);
    }
    let Some(frontend) = backend::frontend(&FrontendKey::new(destination, protocol))? else {
        return Ok(Reason::NotAService);
    };
    let Some(service) = backend::service(&frontend) else { return Ok(Reason::NotAService) };

    if frontend.empty != 0 {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).refused, 1) };
        return Err(Reason::NoBackend);
    }

    let socket = storage::make(context::socket(ctx))?;
    context::owner(ctx).write(socket);
    socket.original = destination;
    socket.service = frontend.service;
    let mut reason = Reason::Balanced;
    if frontend.path == path::PROXY {
        let listener = agent::listener(&destination, settings.proxy_port_be);
        match agent::answers(ctx, settings, &listener, protocol) {
            Ok(()) => {
                socket.route = route::PROXY;
                socket.actual = listener;
                F::write(ctx, &listener);
                // SAFETY: a live map value.
                unsafe { count::add(&raw mut (*service).proxied, 1) };
                return Ok(Reason::Proxied);
            }
            Err(why) => reason = why,
        }
        if frontend.on_agent_failure == on_agent_failure::CLOSED {
            // SAFETY: a live map value.
            unsafe { count::add(&raw mut (*service).refused, 1) };
            return Err(Reason::FailedClosed);
        }
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).fallback, 1) };
    }

    let policy = backend::policy(frontend.service);
    let asker = limit::Asker { service: frontend.service, netns: socket.netns };
    limit::admit(policy, asker)?;
    to_backend::<F>(ctx, &frontend, policy, service, socket, protocol)?;
    Ok(reason)
}

/// Picks a backend and sends the socket there.
#[inline(always)]
fn to_backend<F: Family>(
    ctx: &SockAddrContext,
    frontend: &Frontend,
    policy: Option<&Policy>,
    service: *mut Service,
    socket: &mut Socket,
    protocol: u8,
) -> Result<(), Reason> {
    socket.route = route::BACKEND;
    let choice = pick::pick(frontend, policy, &client::<F>(ctx)).inspect_err(|reason| {
        // SAFETY: a live map value.
        let counter = unsafe {
            match reason {
                Reason::OverConcurrencyLimit => &raw mut (*service).limited,
                _ => &raw mut (*service).refused,
            }
        };
        // SAFETY: as above.
        unsafe { count::add(counter, 1) };
    })?;
    socket.backend = choice.slot.backend;
    socket.tier = choice.slot.tier;
    socket.actual = choice.slot.address;
    socket.probe = choice.probe;
    if !F::write(ctx, &choice.slot.address) {
        pick::undo(socket.backend, socket.probe);
        return Err(Reason::NoBackend);
    }
    if protocol == UDP {
        show_the_original(ctx, socket);
        let with = With { service: socket.service, backend: socket.backend };
        udp::deals_with(ctx, with, &socket.original);
    } else {
        timeouts::before(ctx, policy, socket);
    }
    // SAFETY: a live map value.
    unsafe { count::add(&raw mut (*service).kernel, 1) };
    Ok(())
}

/// A connected socket may still ask `recvfrom` who an answer is from.
#[inline(always)]
fn show_the_original(ctx: &SockAddrContext, socket: &Socket) {
    let key = ReverseKey { cookie: context::socket_cookie(ctx), from: socket.actual, zero: 0 };
    // An LRU map makes room for itself; where even that fails, answers show
    // the backend's address instead of the virtual one.
    let original = socket.original;
    let _ = REVERSE.insert(key, original, 0);
}
