//! What a service lets through: new connections (UDP: flows) per time, and
//! open connections at a time, in all and by backend. Over a limit, `connect` fails with EAGAIN.
//!
//! Connections of a proxied service that come here while no agent answers are
//! not limited: the agent, which counts requests, leaves these limits unset.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mesh_common::{
    gcra::{self, Decision},
    meter::MeterKey,
    policy::{MAX_RATES, Policy, Rate, flag, rate_flag},
    reason::Reason,
    service::Service,
};

use crate::{
    count,
    maps::{BACKENDS, CONCURRENCY, METERS, POLICIES, SERVICES},
};

/// How often the state of a rate may change under our hands. Each change is a
/// connection that another CPU let through, so who loses this often is over the
/// limit anyway.
const TRIES: u32 = 16;

/// Who asks, of which service.
#[derive(Clone, Copy)]
pub struct Asker {
    pub service: u32,
    pub netns: u64,
}

/// Whether a new connection of this service may be opened.
#[inline(always)]
pub fn admit(policy: Option<&Policy>, asker: Asker) -> Result<(), Reason> {
    if policy.is_none() {
        return Ok(());
    }
    match mesh_admit(asker.service, asker.netns) {
        0 => Ok(()),
        1 => Err(Reason::TooManyConnections),
        _ => Err(Reason::RateLimited),
    }
}

/// A function of its own, with nothing but numbers coming in and going out, is
/// verified once, and not again for every path through it with all that
/// follows: 0 lets the connection through.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_admit(service: u32, netns: u64) -> u64 {
    let (Some(policy), Some(value)) = (POLICIES.get_ptr(service), SERVICES.get_ptr_mut(service))
    else {
        return 0;
    };
    // SAFETY: a live map value.
    let policy = unsafe { &*policy };
    let verdict = match open_connections(policy, value) {
        Err(_) => 1,
        Ok(()) => match rates(policy, Asker { service, netns }, value) {
            Err(_) => 2,
            Ok(()) => 0,
        },
    };
    if verdict != 0 {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*value).limited, 1) };
    }
    verdict
}

/// Those whose SYN was sent count: a burst of them is no way around the limit.
#[inline(always)]
fn open_connections(policy: &Policy, service: *mut Service) -> Result<(), Reason> {
    if policy.max_connections == 0 {
        return Ok(());
    }
    // SAFETY: a live map value. Closed is read first: what closes in between
    // makes the number too large for this moment, never too small.
    let open = unsafe {
        let closed = (&raw const (*service).closed).read_volatile();
        (&raw const (*service).opened).read_volatile().saturating_sub(closed)
    };
    if open < policy.max_connections { Ok(()) } else { Err(Reason::TooManyConnections) }
}

/// Whether this backend has as many connections as the agent found that it
/// answers quickly.
#[inline(always)]
pub fn is_full(id: u32, policy: &Policy) -> bool {
    policy.flags & flag::ADAPTIVE != 0 && mesh_is_full(id) != 0
}

/// A function of its own as [`mesh_admit`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_is_full(id: u32) -> u64 {
    let (Some(limit), Some(backend)) = (CONCURRENCY.get_ptr(id), BACKENDS.get_ptr(id)) else {
        return 0;
    };
    // SAFETY: both are live map values.
    unsafe {
        let closed = (&raw const (*backend).closed).read_volatile();
        let open = (&raw const (*backend).opened).read_volatile().saturating_sub(closed);
        u64::from(open >= limit.read_volatile())
    }
}

/// All rates must let it through; one that refuses takes nothing from the others.
#[inline(always)]
fn rates(policy: &Policy, asker: Asker, service: *mut Service) -> Result<(), Reason> {
    let mut taken = 0_u64;
    for index in 0..MAX_RATES as u32 {
        let rate = &policy.rates[index as usize];
        if rate.interval_ns == 0 {
            return Ok(());
        }
        if mesh_rate_take(asker.service, asker.netns, index) != 0 {
            taken |= 1 << index;
        } else if rate.flags & rate_flag::DRY_RUN != 0 {
            count::reason(Reason::RateLimitDryRun);
            // SAFETY: a live map value.
            unsafe { count::add(&raw mut (*service).dry_run, 1) };
        } else {
            give_back(taken, asker);
            return Err(Reason::RateLimited);
        }
    }
    Ok(())
}

#[inline(always)]
fn give_back(taken: u64, asker: Asker) {
    for index in 0..MAX_RATES as u32 {
        if taken & 1 << index != 0 {
            mesh_rate_give_back(asker.service, asker.netns, index);
        }
    }
}

/// Takes one from a rate; 0 where it is over. A function of its own, with
/// nothing but numbers coming in, is verified once and not for every path that
/// leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_rate_take(service: u32, netns: u64, index: u32) -> u64 {
    let Some((rate, word)) = meter(Asker { service, netns }, index) else {
        // No room for another client's state, even in an LRU map.
        return 1;
    };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    for _ in 0..TRIES {
        // SAFETY: a live map value.
        let seen = unsafe { word.read_volatile() };
        let Decision::Allowed { tat } =
            gcra::decide(seen, now, rate.interval_ns, rate.tolerance_ns)
        else {
            return 0;
        };
        // SAFETY: as above.
        if unsafe { count::replace(word, seen, tat) } == seen {
            return 1;
        }
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_rate_give_back(service: u32, netns: u64, index: u32) -> u64 {
    if let Some((rate, word)) = meter(Asker { service, netns }, index) {
        // SAFETY: a live map value.
        unsafe { count::add(word, 0_u64.wrapping_sub(rate.interval_ns)) };
    }
    0
}

/// A rate, and where it stands: with the service, or with the client's
/// workload.
#[inline(always)]
fn meter(asker: Asker, index: u32) -> Option<(&'static Rate, *mut u64)> {
    let policy = POLICIES.get_ptr(asker.service)?;
    let index = index as usize;
    if index >= MAX_RATES {
        return None;
    }
    // SAFETY: a live map value, and `index` is below the length.
    let rate = unsafe { &*(&raw const (*policy).rates).cast::<Rate>().add(index) };
    if rate.flags & rate_flag::BY_CLIENT == 0 {
        let service = SERVICES.get_ptr_mut(asker.service)?;
        // SAFETY: as above.
        return Some((rate, unsafe { (&raw mut (*service).arrivals).cast::<u64>().add(index) }));
    }
    let key = MeterKey { netns: asker.netns, service: asker.service, rate: index as u32 };
    if let Some(found) = METERS.get_ptr_mut(key) {
        return Some((rate, found));
    }
    const NO_EXIST: u64 = 1;
    // Another CPU may have been first.
    let _ = METERS.insert(key, 0, NO_EXIST);
    METERS.get_ptr_mut(key).map(|found| (rate, found))
}
