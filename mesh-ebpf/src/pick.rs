//! Which backend a new connection gets: `docs/kernel-path.md` has the rules.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, generated::bpf_loop};
use mesh_common::{
    backend::{Backend, EACH, Slot, SlotKey},
    ejection::Access,
    ewma::Ewma,
    frontend::{Frontend, algorithm},
    hash, least,
    lookup::{CHUNK, ChunkKey},
    maglev,
    policy::{Policy, SLOW_START_STEPS},
    reason::Reason,
    search::{self, Judgement, Nothing},
    select::scale,
};

use crate::{
    affinity,
    backend::{backend, policy, service},
    count, eject, limit,
    maps::{LOOKUPS, SLOTS},
    unreached,
};

/// How often the algorithm is asked again when what it picked is ejected.
const ASKED: u32 = 8;
/// How many backends are then looked through one after the other.
const LOOKED_THROUGH: u32 = 64;

/// Who asks.
#[derive(Clone, Copy)]
pub struct Client {
    pub netns: u64,
    /// What consistent hashing goes by.
    pub hash: u64,
}

/// A backend, and the word by which this connection became its probe; 0 for
/// an ordinary connection.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    pub slot: &'a Slot,
    pub probe: u64,
}

/// Picks a backend. Slots of a replaced generation stay readable for a second,
/// far longer than any program runs.
#[inline(always)]
pub fn pick<'a>(
    frontend: &Frontend,
    policy: Option<&Policy>,
    client: &Client,
) -> Result<Choice<'a>, Reason> {
    if frontend.slots == 0 {
        return Err(Reason::NoBackend);
    }
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(slot) = affinity::kept(frontend, policy, client.netns, now) {
        return Ok(Choice { slot, probe: 0 });
    }
    let mut probe = 0;
    let slot = search(frontend, policy, client, now, &mut probe)?;
    affinity::keep(frontend, policy, client.netns, slot.backend, now);
    Ok(Choice { slot, probe })
}

/// A search, for its steps to share.
struct Search<'a> {
    frontend: &'a Frontend,
    policy: Option<&'a Policy>,
    client: &'a Client,
    turn: u64,
    now: u64,
    seen: search::Search,
    probe: u64,
}

/// Goes through candidates until one may be used.
#[inline(always)]
fn search<'a>(
    frontend: &Frontend,
    policy: Option<&Policy>,
    client: &Client,
    now: u64,
    probe: &mut u64,
) -> Result<&'a Slot, Reason> {
    let turn = turn(frontend);
    let seen = search::Search::default();
    let mut search = Search { frontend, policy, client, turn, now, seen, probe: 0 };
    let all = if frontend.backends < LOOKED_THROUGH { frontend.backends } else { LOOKED_THROUGH };
    // A plain loop would be verified once for every round.
    // SAFETY: the callback has the signature that the kernel expects, and the
    // search lives until the call ends.
    unsafe {
        bpf_loop(
            ASKED + all,
            step as *mut core::ffi::c_void,
            core::ptr::from_mut(&mut search).cast(),
            0,
        );
    }
    *probe = search.probe;
    match search.seen.result() {
        Ok(index) => slot(frontend, index).ok_or(Reason::SetChanged),
        Err(Nothing::Seen) => Err(Reason::SetChanged),
        Err(Nothing::Free) => Err(Reason::OverConcurrencyLimit),
    }
}

/// Looks at one candidate; 1 ends the search.
///
/// # Safety
/// `search` is what [`search`] handed to the kernel.
unsafe extern "C" fn step(attempt: u64, search: *mut Search<'_>) -> u64 {
    // SAFETY: what `search` handed over, and nobody else has it.
    let search = unsafe { &mut *search };
    let (frontend, attempt) = (search.frontend, attempt as u32);
    let index = if attempt < ASKED {
        asked(frontend, search.policy, search.client, search.turn, attempt, search.now)
    } else {
        each(frontend, search.turn, attempt - ASKED)
    };
    let Some(slot) = slot(frontend, index) else { return 0 };
    let luck = luck(frontend, search.client, slot.backend) << 16;
    let luck_and_tier = luck | u32::from(slot.tier);
    let netns = search.client.netns;
    let judgement =
        match mesh_judge(slot.backend, frontend.service, luck_and_tier, netns, search.now) {
            judgement::SLOW => Judgement::Slow,
            judgement::FULL => Judgement::Full,
            judgement::EJECTED => Judgement::Ejected,
            probe => {
                search.probe = probe;
                Judgement::Use
            }
        };
    u64::from(search.seen.judged(index, judgement))
}

#[inline(always)]
fn slot<'a>(frontend: &Frontend, index: u32) -> Option<&'a Slot> {
    let key = SlotKey { set: frontend.set, generation: frontend.generation, index };
    // SAFETY: slots are never written after they were published.
    unsafe { SLOTS.get(key) }
}

/// Round robin's turn; for the others a number to start from.
#[inline(always)]
fn turn(frontend: &Frontend) -> u64 {
    match service(frontend) {
        // SAFETY: a live map value.
        Some(service) => unsafe { count::add(&raw mut (*service).cursor, 1) },
        None => 0,
    }
}

/// `turn` modulo `bound`, without the panic for 0 that the verifier would have
/// to follow.
#[inline(always)]
fn wrap(turn: u64, bound: u32) -> u32 {
    turn.checked_rem(u64::from(bound)).unwrap_or(0) as u32
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_prandom_u32() }
}

/// What the algorithm says, when it is asked for the `attempt`th time.
#[inline(always)]
fn asked(
    frontend: &Frontend,
    policy: Option<&Policy>,
    client: &Client,
    turn: u64,
    attempt: u32,
    now: u64,
) -> u32 {
    match frontend.algorithm {
        algorithm::ROUND_ROBIN => wrap(turn.wrapping_add(u64::from(attempt)), frontend.slots),
        algorithm::CONSISTENT_HASH => owner(frontend, hash::again(client.hash, attempt)),
        algorithm::LEAST_CONNECTIONS | algorithm::LEAST_RESPONSE_TIME => {
            better(frontend, policy, now)
        }
        _ => scale(random(), frontend.slots),
    }
}

/// The slot that has this hash's place in the lookup table.
#[inline(always)]
fn owner(frontend: &Frontend, hash: u64) -> u32 {
    let place = maglev::place(hash);
    let key = ChunkKey {
        set: frontend.set,
        generation: frontend.generation,
        chunk: place / CHUNK as u32,
    };
    match LOOKUPS.get_ptr(key) {
        // SAFETY: chunks are never written after they were published.
        Some(chunk) => u32::from(unsafe { (*chunk).slots[place as usize % CHUNK] }),
        None => hash::place(hash, frontend.slots),
    }
}

/// Of two slots by chance, the one that is less busy. Of different tiers the
/// first one counts, so that each tier gets its share, however busy it is.
#[inline(always)]
fn better(frontend: &Frontend, policy: Option<&Policy>, now: u64) -> u32 {
    let draw = u64::from(random()) << 32 | u64::from(random());
    let Some((first, second)) = least::pair(draw, frontend.slots) else { return 0 };
    let tier = |index| slot(frontend, index).map(|slot| slot.tier);
    if tier(first) != tier(second) {
        return first;
    }
    match (weigh(frontend, first, policy, now), weigh(frontend, second, policy, now)) {
        (Some(one), Some(other)) => {
            if other.beats(one) {
                second
            } else {
                first
            }
        }
        (None, Some(_)) => second,
        _ => first,
    }
}

/// What a connection to the backend of this slot would cost; `None` where it is
/// ejected.
#[inline(always)]
fn weigh(
    frontend: &Frontend,
    index: u32,
    policy: Option<&Policy>,
    now: u64,
) -> Option<least::Cost> {
    let slot = slot(frontend, index)?;
    let backend = backend(slot.backend)?;
    // SAFETY: a live map value.
    let (opened, closed, ewma) = unsafe {
        match eject::access(backend, policy, now) {
            Access::Closed => return None,
            // Whoever may probe it should.
            Access::Probe => return Some(least::Cost { ewma_ns: 0, pending: 0, weight: u32::MAX }),
            Access::Open => ((*backend).opened, (*backend).closed, (*backend).ewma),
        }
    };
    // The connections alone count where the time is left out.
    let ewma_ns = if frontend.algorithm == algorithm::LEAST_RESPONSE_TIME {
        mesh_ewma(ewma.value_ns, ewma.at_ns, now)
    } else {
        1
    };
    let pending = opened.saturating_sub(closed) as u32;
    Some(least::Cost { ewma_ns, pending, weight: u32::from(slot.weight) })
}

/// The `nth` of all backends, counted from a start that differs between
/// connections.
#[inline(always)]
fn each(frontend: &Frontend, turn: u64, nth: u32) -> u32 {
    let index = wrap(turn.wrapping_add(u64::from(nth)), frontend.backends);
    if frontend.backends == frontend.slots { index } else { EACH | index }
}

/// What [`mesh_judge`] says; anything else is the word of a probe.
mod judgement {
    pub const USE: u64 = 0;
    /// It has just come into service, and gets only some of its turns.
    pub const SLOW: u64 = 1;
    /// It has as many connections as its response time allows.
    pub const FULL: u64 = 2;
    pub const EJECTED: u64 = 3;
}

/// Whether a backend may be used by the client. The upper half of `luck_and_tier`
/// is a number by chance, against which a slow start is held.
///
/// A function of its own, with nothing but numbers coming in, is verified once
/// and not for every path that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_judge(
    id: u32,
    service: u32,
    luck_and_tier: u32,
    netns: u64,
    now: u64,
) -> u64 {
    let (Some(policy), Some(backend)) = (policy(service), backend(id)) else {
        return judgement::USE;
    };
    // SAFETY: a live map value.
    unsafe {
        match eject::access(backend, Some(policy), now) {
            Access::Closed => judgement::EJECTED,
            Access::Probe => eject::claim(backend, id, policy, now).unwrap_or(judgement::EJECTED),
            Access::Open if unreached::by(netns, backend, id, Some(policy), now) => {
                let seat = eject::tier(service, luck_and_tier & 0xffff);
                eject::passed_over(backend, id, &seat, policy, now);
                judgement::EJECTED
            }
            Access::Open if limit::is_full(id, policy) => judgement::FULL,
            Access::Open if (luck_and_tier >> 16) as u16 <= share(backend, policy, now) => {
                judgement::USE
            }
            Access::Open => judgement::SLOW,
        }
    }
}

/// The average as of now; on its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_ewma(value_ns: u64, at_ns: u64, now: u64) -> u64 {
    Ewma { value_ns, at_ns }.read(now)
}

/// By the client in consistent hashing, so that each moves once as a share
/// grows; else by chance.
#[inline(always)]
fn luck(frontend: &Frontend, client: &Client, id: u32) -> u32 {
    if frontend.algorithm == algorithm::CONSISTENT_HASH {
        hash::mix(client.hash ^ u64::from(id)) as u32
    } else {
        random()
    }
}

/// How much of its turns a backend gets, in 65,536ths less one.
///
/// # Safety
/// `backend` points into a live map value.
#[inline(always)]
unsafe fn share(backend: *const Backend, policy: &Policy, now: u64) -> u16 {
    // SAFETY: as the caller says.
    let started = unsafe { (*backend).started_ns };
    let age = now.saturating_sub(started);
    if started == 0 || age >= policy.slow_start_ns {
        return u16::MAX;
    }
    let step = (age * SLOW_START_STEPS as u64).checked_div(policy.slow_start_ns).unwrap_or(0);
    policy.slow_start[step as usize % SLOW_START_STEPS]
}

/// Gives back the probe of a connection that is not made after all.
#[inline(always)]
pub fn undo(id: u32, probe: u64) {
    if probe != 0
        && let Some(backend) = backend(id)
    {
        // SAFETY: a live map value.
        unsafe { eject::release(backend, probe) };
    }
}
