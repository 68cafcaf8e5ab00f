//! Backends that fail leave for a time, by what connections themselves met:
//! decided where it is seen, so that it holds for the very next connect.
//!
//! One word per backend says it all: 0 in service, else when its exile ends.
//! The connection that exchanges the word of a finished exile for a lease is
//! the probe, and only the holder of that very lease may let the backend back
//! or send it away for longer.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use mesh_common::{
    backend::{Backend, PROBING, TierKey, cause},
    ejection::{self, Access},
    event::kind,
    ewma::Ewma,
    policy::{MAX_TIERS, Policy, flag},
    reason::Reason,
    socket::Socket,
};

use crate::{
    count,
    maps::TIERS,
    report::{WAKE, report},
    unreached,
};

/// What connections and requests of a failing backend count as in its response
/// time, so that it attracts nothing by failing fast.
const FAILURE_NS: u64 = 5_000_000_000;

/// Whether the backend may be sent to.
///
/// # Safety
/// `backend` points into a live map value, here and below.
#[inline(always)]
pub unsafe fn access(backend: *const Backend, policy: Option<&Policy>, now: u64) -> Access {
    if policy.is_none_or(|policy| policy.flags & flag::EJECT == 0) {
        return Access::Open;
    }
    // SAFETY: as the caller says.
    let word = unsafe { (&raw const (*backend).ejected_until_ns).read_volatile() };
    ejection::access(word & !PROBING, now)
}

/// Tries to become the probe; the word to hold where it worked.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn claim(backend: *mut Backend, id: u32, policy: &Policy, now: u64) -> Option<u64> {
    // SAFETY: as the caller says.
    unsafe {
        let word = &raw mut (*backend).ejected_until_ns;
        let found = word.read_volatile();
        if found == 0 {
            // Somebody has just let it back.
            return Some(0);
        }
        if ejection::access(found & !PROBING, now) != Access::Probe {
            return None;
        }
        if found & PROBING != 0 {
            // Its probe didn't end in time: as good as one that failed.
            send_away(backend, id, policy, (*backend).cause, found, now);
            return None;
        }
        let lease = ejection::lease(now, policy.probe_ns) | PROBING;
        // Somebody else may have become the probe meanwhile.
        (count::replace(word, found, lease) == found).then_some(lease)
    }
}

/// Lets somebody else be the probe.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn release(backend: *mut Backend, probe: u64) {
    /// Any time that is over.
    const OVER: u64 = 2;
    // SAFETY: as the caller says.
    unsafe { count::replace(&raw mut (*backend).ejected_until_ns, probe, OVER) };
}

/// The connection was established.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn connected(backend: *mut Backend, socket: &Socket, now: u64) {
    // SAFETY: as the caller says.
    unsafe {
        if socket.probe != 0 {
            if (*backend).cause == cause::CONNECT {
                let_back(backend, socket, now);
            }
        } else if (*backend).connect_failures != 0 && counts(backend, socket) {
            (*backend).connect_failures = 0;
        }
    }
}

/// The first byte of an answer came, or was there when the connection closed.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn answered(backend: *mut Backend, socket: &Socket, now: u64) {
    // SAFETY: as the caller says.
    unsafe {
        if socket.probe != 0 {
            let_back(backend, socket, now);
        } else if (*backend).response_failures != 0 && counts(backend, socket) {
            (*backend).response_failures = 0;
        }
    }
}

/// Whether what this connection met says something of the backend as it is
/// now: not what was begun before it was ejected, or before it came back.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn counts(backend: *const Backend, socket: &Socket) -> bool {
    // SAFETY: as the caller says.
    unsafe { (*backend).ejected_until_ns == 0 && socket.opened_ns >= (*backend).changed_ns }
}

/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn let_back(backend: *mut Backend, socket: &Socket, now: u64) {
    // SAFETY: as the caller says.
    unsafe {
        if count::replace(&raw mut (*backend).ejected_until_ns, socket.probe, 0) != socket.probe {
            return;
        }
        let key = TierKey { service: socket.service, tier: u32::from((*backend).tier) };
        if let Some(ejected) = TIERS.get_ptr_mut(key) {
            count::take_back(ejected);
        }
        start_anew(backend, now);
        (*backend).started_ns = now;
        // What it was before its exile is over; the probe's own time stands.
        (*backend).ewma = Ewma::default().observe(now.saturating_sub(socket.opened_ns), now);
        tell(kind::RETURNED, backend, socket.backend, 0, 0);
    }
}

/// The connection failed.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn failed(
    backend: *mut Backend,
    socket: &Socket,
    policy: Option<&Policy>,
    why: u16,
    now: u64,
) {
    // SAFETY: as the caller says.
    unsafe {
        (*backend).ewma = (*backend).ewma.observe(FAILURE_NS, now);
        let Some(policy) = policy.filter(|policy| policy.flags & flag::EJECT != 0) else { return };
        if socket.probe != 0 {
            send_away(backend, socket.backend, policy, why, socket.probe, now);
        } else if counts(backend, socket) {
            if why == cause::CONNECT {
                unreached::note(socket, now);
            }
            if is_enough(backend, policy, why) {
                with_a_seat(backend, socket.backend, &seat(socket), policy, why, now);
            }
        }
    }
}

/// A client whose own connect failed there passes the backend over: its turn
/// counts as one more connect that failed, so that a client alone ejects it as
/// soon as many do.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
pub unsafe fn passed_over(
    backend: *mut Backend,
    id: u32,
    seat: &TierKey,
    policy: &Policy,
    now: u64,
) {
    // SAFETY: as the caller says.
    unsafe {
        if is_enough(backend, policy, cause::CONNECT) {
            with_a_seat(backend, id, seat, policy, cause::CONNECT, now);
        }
    }
}

/// Counts a failure; whether there were enough in a row.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn is_enough(backend: *mut Backend, policy: &Policy, why: u16) -> bool {
    // SAFETY: as the caller says.
    let (failures, limit) = unsafe {
        if why == cause::CONNECT {
            (count::add(&raw mut (*backend).connect_failures, 1), policy.connect_failures)
        } else {
            (count::add(&raw mut (*backend).response_failures, 1), policy.response_failures)
        }
    };
    limit > 0 && failures + 1 >= u64::from(limit)
}

/// Ejects the backend if its tier may lose one more.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn with_a_seat(
    backend: *mut Backend,
    id: u32,
    seat: &TierKey,
    policy: &Policy,
    why: u16,
    now: u64,
) {
    let tier = seat.tier as usize;
    let Some(ejected) = ejected_of(seat) else { return };
    // SAFETY: a live map value; and as the caller says.
    unsafe {
        // Counted first: of two that fail at a time only one finds the last seat.
        if count::add(ejected, 1) >= u64::from(policy.max_ejected[tier & (MAX_TIERS - 1)]) {
            count::take_back(ejected);
            count::reason(Reason::EjectionCapped);
        } else if send_away(backend, id, policy, why, 0, now) {
            (*backend).tier = tier as u16;
        } else {
            count::take_back(ejected);
        }
    }
}

/// Where a backend that this connection went to counts when it is ejected.
#[inline(always)]
fn seat(socket: &Socket) -> TierKey {
    tier(socket.service, u32::from(socket.tier))
}

/// Far tiers share the last.
#[inline(always)]
pub fn tier(service: u32, tier: u32) -> TierKey {
    TierKey { service, tier: tier.min(MAX_TIERS as u32 - 1) }
}

#[inline(always)]
fn ejected_of(key: &TierKey) -> Option<*mut u64> {
    const NOT_OVER_ANOTHER: u64 = 1;
    if TIERS.get_ptr_mut(key).is_none() {
        let _ = TIERS.insert(key, 0, NOT_OVER_ANOTHER);
    }
    TIERS.get_ptr_mut(key)
}

/// Exchanges the word for an exile; whether it was still the one expected.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn send_away(
    backend: *mut Backend,
    id: u32,
    policy: &Policy,
    why: u16,
    expected: u64,
    now: u64,
) -> bool {
    let (base, max) = (policy.eject_base_ns, policy.eject_max_ns);
    // SAFETY: as the caller says; the helper takes nothing.
    unsafe {
        let mut times = (*backend).exiles as u32;
        if expected == 0 {
            let good = now.saturating_sub((*backend).changed_ns);
            times = ejection::forgiven(base, max, times, good);
        }
        let exile = ejection::exile(base, max, times, bpf_get_prandom_u32());
        let until = ejection::lease(now, exile).saturating_add(PROBING) & !PROBING;
        if count::replace(&raw mut (*backend).ejected_until_ns, expected, until) != expected {
            return false;
        }
        (*backend).cause = why;
        (*backend).exiles = u64::from(ejection::more(base, max, times));
        count::add(&raw mut (*backend).ejections, 1);
        start_anew(backend, now);
        count::reason(Reason::Ejected);
        tell(kind::EJECTED, backend, id, why, exile);
    }
    true
}

/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn start_anew(backend: *mut Backend, now: u64) {
    // SAFETY: as the caller says.
    unsafe {
        (*backend).changed_ns = now;
        (*backend).connect_failures = 0;
        (*backend).response_failures = 0;
    }
}

/// The agent is woken: what it knows of the backend is out of date.
///
/// # Safety
/// As for [`access`].
#[inline(always)]
unsafe fn tell(kind: u32, backend: *const Backend, id: u32, why: u16, exile_ns: u64) {
    report(kind, WAKE, |event| {
        // SAFETY: as the caller says.
        unsafe {
            event.service = (*backend).service;
            event.backend_address = (*backend).address;
        }
        event.backend = id;
        event.reason = u32::from(why);
        event.duration_ns = exile_ns;
    });
}
