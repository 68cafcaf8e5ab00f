//! Datagrams of unconnected UDP sockets: `sendmsg` balances, `recvmsg` shows
//! the address that was asked for.

use aya_ebpf::programs::SockAddrContext;
use mesh_common::{
    address::Address,
    connection::{Flow, FlowKey, ReverseKey, With},
    frontend::{Frontend, FrontendKey, UDP},
    reason::Reason,
};

use crate::{
    backend,
    client::client,
    context::{self, Family, Verdict},
    count, dns, limit,
    maps::{BACKENDS, FLOWS, REVERSE, SETTINGS},
    pick, scope, udp,
};

#[inline(always)]
pub fn send<F: Family>(ctx: &SockAddrContext) -> Verdict {
    match try_send::<F>(ctx) {
        Ok(reason) => {
            count::reason(reason);
            Verdict::Proceed
        }
        Err(reason) => {
            count::reason(reason);
            Verdict::Refuse(context::errno(reason))
        }
    }
}

#[inline(always)]
fn try_send<F: Family>(ctx: &SockAddrContext) -> Result<Reason, Reason> {
    let Some(settings) = SETTINGS.get(0) else { return Ok(Reason::NotAService) };
    if let Some(reason) = scope::left_alone(ctx, settings) {
        return Ok(reason);
    }
    let destination = F::read(ctx);
    if dns::is_query(settings, &destination) {
        if dns::redirect_datagram::<F>(ctx, settings, &destination) {
            return Ok(Reason::DnsRedirected);
        }
        count::reason(Reason::DnsPassed);
    }
    let Some(frontend) = backend::frontend(&FrontendKey::new(destination, UDP))? else {
        return Ok(Reason::NotAService);
    };
    let cookie = context::socket_cookie(ctx);
    let flow = flow::<F>(ctx, &frontend, cookie)?;
    let key = ReverseKey { cookie, from: flow.address, zero: 0 };
    // Written only when missing: most datagrams follow others.
    if REVERSE.get_ptr(key).is_none() {
        let _ = REVERSE.insert(key, destination, 0);
    }
    if !F::write(ctx, &flow.address) {
        return Err(Reason::NoBackend);
    }
    let with = With { service: frontend.service, backend: flow.backend };
    udp::deals_with(ctx, with, &destination);
    tally(&frontend, &flow);
    Ok(Reason::Balanced)
}

/// The backend that this socket keeps to for this service: the one it had as
/// long as that is in service, else a new one.
#[inline(always)]
fn flow<F: Family>(
    ctx: &SockAddrContext,
    frontend: &Frontend,
    cookie: u64,
) -> Result<Flow, Reason> {
    let key = FlowKey { cookie, service: frontend.service, zero: 0 };
    // SAFETY: copied at once; only this socket's sends write it.
    let known = unsafe { FLOWS.get(key) }.copied();
    if let Some(flow) = known
        && flow.set == frontend.set
        && (flow.generation == frontend.generation || BACKENDS.get_ptr(flow.backend).is_some())
        && frontend.slots > 0
    {
        return Ok(flow);
    }
    let policy = backend::policy(frontend.service);
    // One whose backend went away is no new flow.
    if known.is_none() {
        let netns = context::netns_cookie(ctx);
        limit::admit(policy, limit::Asker { service: frontend.service, netns })?;
    }
    let picked = pick::pick(frontend, policy, &client::<F>(ctx))?.slot;
    let flow = Flow {
        address: picked.address,
        backend: picked.backend,
        set: frontend.set,
        generation: frontend.generation,
    };
    // Where it can't be kept, the next datagram is balanced anew.
    let _ = FLOWS.insert(key, flow, 0);
    Ok(flow)
}

#[inline(always)]
fn tally(frontend: &Frontend, flow: &Flow) {
    if let Some(service) = backend::service(frontend) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).datagrams, 1) };
    }
    if let Some(backend) = BACKENDS.get_ptr_mut(flow.backend) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*backend).datagrams, 1) };
    }
}

#[inline(always)]
pub fn receive<F: Family>(ctx: &SockAddrContext) -> Verdict {
    let from: Address = F::read(ctx);
    let key = ReverseKey { cookie: context::socket_cookie(ctx), from, zero: 0 };
    // SAFETY: copied at once; replaced only by this socket's own sends.
    if let Some(original) = unsafe { REVERSE.get(key) }.copied() {
        F::write(ctx, &original);
    }
    Verdict::Proceed
}
