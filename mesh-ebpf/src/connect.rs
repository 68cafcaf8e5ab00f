//! `connect`: the whole decision for TCP, and for connected UDP.

use aya_ebpf::programs::SockAddrContext;
use mesh_common::{
    address::Address,
    connection::ReverseKey,
    frontend::{FrontendKey, UDP, on_agent_failure, path},
    reason::Reason,
    service::Service,
    socket::{Socket, route},
};

use crate::{
    agent, backend,
    context::{self, Family, Verdict},
    count, dns, limit, log,
    maps::{BACKENDS, REVERSE, SETTINGS},
    scope, storage,
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
            log::refused(ctx, &F::read(ctx), reason);
            Verdict::Refuse(context::errno(reason))
        }
    }
}

/// Why the socket goes on (the address is rewritten by then), or is refused.
#[inline(always)]
fn try_decide<F: Family>(ctx: &SockAddrContext) -> Result<Reason, Reason> {
    let Some(settings) = SETTINGS.get(0) else { return Ok(Reason::NotAService) };
    let destination = F::read(ctx);
    let protocol = context::protocol(ctx);
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

    let mut socket =
        Socket { original: destination, service: frontend.service, ..context::describe(ctx) };
    let mut reason = Reason::Balanced;
    if frontend.path == path::PROXY {
        let listener = agent::listener(&destination, settings.proxy_port_be);
        match agent::answers(ctx, settings, &listener, protocol) {
            Ok(()) => {
                socket.route = route::PROXY;
                return redirect_to_agent::<F>(ctx, service, socket, listener);
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

    limit::admit(limit::Asker { service: frontend.service, netns: socket.netns }, service)?;
    let slot = backend::pick(&frontend).inspect_err(|_| {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).refused, 1) };
    })?;
    socket.route = route::BACKEND;
    socket.backend = slot.backend;
    socket.actual = slot.address;
    remember(ctx, &socket, protocol)?;
    if !F::write(ctx, &slot.address) {
        return Err(Reason::NoBackend);
    }
    // SAFETY: a live map value.
    unsafe { count::add(&raw mut (*service).kernel, 1) };
    Ok(reason)
}

#[inline(always)]
fn redirect_to_agent<F: Family>(
    ctx: &SockAddrContext,
    service: *mut Service,
    mut socket: Socket,
    listener: Address,
) -> Result<Reason, Reason> {
    socket.actual = listener;
    if !storage::set(context::socket(ctx), &socket) {
        return Err(Reason::NoSocketStorage);
    }
    F::write(ctx, &listener);
    // SAFETY: a live map value.
    unsafe { count::add(&raw mut (*service).proxied, 1) };
    Ok(Reason::Proxied)
}

/// Stores with the socket what `getpeername`, `recvmsg` and the lifecycle need.
#[inline(always)]
fn remember(ctx: &SockAddrContext, socket: &Socket, protocol: u8) -> Result<(), Reason> {
    if !storage::set(context::socket(ctx), socket) {
        return Err(Reason::NoSocketStorage);
    }
    if protocol == UDP {
        // A connected socket may still ask recvfrom() who the answer is from.
        let key = ReverseKey { cookie: context::socket_cookie(ctx), from: socket.actual, zero: 0 };
        // An LRU map makes room for itself; where even that fails, answers
        // show the backend's address instead of the virtual one.
        let _ = REVERSE.insert(key, socket.original, 0);
        if let Some(backend) = BACKENDS.get_ptr_mut(socket.backend) {
            // SAFETY: a live map value.
            unsafe { count::add(&raw mut (*backend).opened, 1) };
        }
    }
    Ok(())
}
