//! Finding what stands behind a key: frontends, services, backends, policies.

use mesh_common::{
    backend::Backend,
    frontend::{Frontend, FrontendKey},
    policy::Policy,
    reason::Reason,
    service::Service,
};

use crate::maps::{BACKENDS, FRONTENDS, POLICIES, SERVICES};

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

#[inline(always)]
pub fn backend(id: u32) -> Option<*mut Backend> {
    BACKENDS.get_ptr_mut(id)
}

/// How the service's connections are treated. A policy that is replaced while
/// it is read gives old and new values mixed, each of them valid.
#[inline(always)]
pub fn policy<'a>(service: u32) -> Option<&'a Policy> {
    // SAFETY: only read, and only the agent writes it.
    unsafe { POLICIES.get(service) }
}
