//! Session affinity: a client keeps its backend until it has been silent for
//! the service's time, or the backend is ejected, full or no longer picked from.

use mesh_common::{
    affinity::{Affinity, AffinityKey},
    backend::{BY_BACKEND, Slot, SlotKey},
    ejection::Access,
    frontend::Frontend,
    policy::Policy,
};

use crate::{
    backend::backend,
    eject, limit,
    maps::{AFFINITIES, SLOTS},
    unreached,
};

/// The slot of the backend that this client keeps to.
#[inline(always)]
pub fn kept<'a>(
    frontend: &Frontend,
    policy: Option<&Policy>,
    netns: u64,
    now: u64,
) -> Option<&'a Slot> {
    let policy = policy.filter(|policy| policy.affinity_ns > 0)?;
    let found = AFFINITIES.get_ptr_mut(key(frontend, netns))?;
    // SAFETY: a live map value. Two connects of one client may race; either
    // time of use is as good.
    let Affinity { used_ns, backend: id, .. } = unsafe { *found };
    if now.saturating_sub(used_ns) >= policy.affinity_ns {
        return None;
    }
    let slot =
        SlotKey { set: frontend.set, generation: frontend.generation, index: BY_BACKEND | id };
    // SAFETY: slots are never written after they were published.
    let slot = unsafe { SLOTS.get(slot) }?;
    // SAFETY: live map values.
    unsafe {
        let backend = backend(id)?;
        if eject::access(backend, Some(policy), now) != Access::Open
            || unreached::by(netns, backend, id, Some(policy), now)
            || limit::is_full(id, policy)
        {
            return None;
        }
        (*found).used_ns = now;
    }
    Some(slot)
}

/// Remembers what was picked.
#[inline(always)]
pub fn keep(frontend: &Frontend, policy: Option<&Policy>, netns: u64, backend: u32, now: u64) {
    if policy.is_some_and(|policy| policy.affinity_ns > 0) {
        let affinity = Affinity { used_ns: now, backend, zero: 0 };
        // An LRU map makes room for itself; where even that fails, the next
        // connection is balanced anew.
        let _ = AFFINITIES.insert(key(frontend, netns), affinity, 0);
    }
}

#[inline(always)]
fn key(frontend: &Frontend, netns: u64) -> AffinityKey {
    AffinityKey { netns, set: frontend.set, zero: 0 }
}
