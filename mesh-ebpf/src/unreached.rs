//! A client meets a dead backend once: the one that its connect failed at is
//! left out of its next picks, also before enough have failed to eject it.

use mesh_common::{backend::Backend, policy::Policy, socket::Socket, unreached::UnreachedKey};

use crate::maps::UNREACHED;

/// The client's connect failed.
#[inline(always)]
pub fn note(socket: &Socket, now: u64) {
    // An LRU map makes room for itself; where even that fails, the client may
    // meet the same failure again.
    let _ = UNREACHED.insert(key(socket.netns, socket.backend), now, 0);
}

/// Whether the backend is to be left out for this client: its connect failed
/// there less than the first exile ago, and nobody has reached it since.
///
/// # Safety
/// `backend` points into a live map value.
#[inline(always)]
pub unsafe fn by(
    netns: u64,
    backend: *const Backend,
    id: u32,
    policy: Option<&Policy>,
    now: u64,
) -> bool {
    // SAFETY: as the caller says.
    let (failures, changed_ns) = unsafe { ((*backend).connect_failures, (*backend).changed_ns) };
    let Some(policy) = policy.filter(|_| failures != 0) else { return false };
    // SAFETY: copied at once.
    let Some(failed_ns) = (unsafe { UNREACHED.get(key(netns, id)) }).copied() else { return false };
    failed_ns >= changed_ns && now.saturating_sub(failed_ns) < policy.eject_base_ns
}

#[inline(always)]
fn key(netns: u64, backend: u32) -> UnreachedKey {
    UnreachedKey { netns, backend, zero: 0 }
}
