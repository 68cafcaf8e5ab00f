//! Finding a frontend and picking one of its backends.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use mesh_common::{
    backend::{Slot, SlotKey},
    frontend::{Frontend, FrontendKey},
    reason::Reason,
    select,
    service::Service,
};

use crate::{
    count,
    maps::{FRONTENDS, SERVICES, SLOTS},
};

/// The frontend under this key, whole.
///
/// The agent replaces a frontend by linking a new element in place of the old
/// one, whose memory the kernel may use again at once. If the key still leads
/// to the same element after the copy, then it was linked all the while and
/// the copy is of one piece.
#[inline(always)]
pub fn frontend(key: &FrontendKey) -> Result<Option<Frontend>, Reason> {
    for _ in 0..2 {
        let Some(found) = FRONTENDS.get_ptr(key) else { return Ok(None) };
        // SAFETY: a pointer into a map stays readable while the program runs.
        let copy = unsafe { found.read_volatile() };
        if FRONTENDS.get_ptr(key) == Some(found) {
            return Ok(Some(copy));
        }
    }
    Err(Reason::SetChanged)
}

#[inline(always)]
pub fn service(frontend: &Frontend) -> Option<*mut Service> {
    SERVICES.get_ptr_mut(frontend.service)
}

/// Picks a backend. Slots of a replaced generation stay readable for a second,
/// far longer than any program runs.
#[inline(always)]
pub fn pick(frontend: &Frontend) -> Result<Slot, Reason> {
    let turn = match service(frontend) {
        // SAFETY: a live map value.
        Some(service) => unsafe { count::add(&raw mut (*service).cursor, 1) },
        None => 0,
    };
    // SAFETY: takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    let index =
        select::slot(frontend.algorithm, frontend.slots, turn, random).ok_or(Reason::NoBackend)?;
    let key = SlotKey { set: frontend.set, generation: frontend.generation, index };
    // SAFETY: slots are never written after they were published.
    unsafe { SLOTS.get(key) }.copied().ok_or(Reason::SetChanged)
}
