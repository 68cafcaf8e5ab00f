//! Socket storage, from hooks whose context aya has no wrapper for as well.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
};
use mesh_common::{reason::Reason, socket::Socket};

use crate::maps::SOCKETS;

/// The storage of a socket, where it has one.
#[inline(always)]
pub fn get<'a>(socket: *mut bpf_sock) -> Option<&'a mut Socket> {
    // SAFETY: the socket comes from a context, the map is a socket storage, and
    // what comes back is null or lives as long as the program runs.
    unsafe {
        bpf_sk_storage_get(
            (&raw const SOCKETS).cast_mut().cast(),
            socket.cast(),
            ptr::null_mut(),
            0,
        )
        .cast::<Socket>()
        .as_mut()
    }
}

/// Makes a storage, all zeros, for a socket that has none. It is filled in
/// place: a copy would be too large for the program's stack.
#[inline(always)]
pub fn make<'a>(socket: *mut bpf_sock) -> Result<&'a mut Socket, Reason> {
    // SAFETY: as in `get`.
    let made = unsafe {
        bpf_sk_storage_get(
            (&raw const SOCKETS).cast_mut().cast(),
            socket.cast(),
            ptr::null_mut(),
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        )
        .cast::<Socket>()
        .as_mut()
    };
    made.ok_or(Reason::NoSocketStorage)
}

/// Forgets what a socket was used for before.
#[inline(always)]
pub fn clear(socket: *mut bpf_sock) {
    // SAFETY: as in `get`.
    unsafe { bpf_sk_storage_delete((&raw const SOCKETS).cast_mut().cast(), socket.cast()) };
}
