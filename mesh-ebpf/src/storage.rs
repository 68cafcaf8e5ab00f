//! Socket storage, from hooks whose context aya has no wrapper for as well.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
};
use mesh_common::socket::Socket;

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

/// Stores `value` with the socket, in place of whatever stood there.
#[inline(always)]
pub fn set(socket: *mut bpf_sock, value: &Socket) -> bool {
    // SAFETY: as in `get`; the value is copied.
    let stored = unsafe {
        bpf_sk_storage_get(
            (&raw const SOCKETS).cast_mut().cast(),
            socket.cast(),
            ptr::from_ref(value).cast_mut().cast(),
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        )
        .cast::<Socket>()
        .as_mut()
    };
    // A storage that was there before is returned as it was.
    stored.is_some_and(|stored| {
        *stored = *value;
        true
    })
}

/// Forgets what a socket was used for before.
#[inline(always)]
pub fn clear(socket: *mut bpf_sock) {
    // SAFETY: as in `get`.
    unsafe { bpf_sk_storage_delete((&raw const SOCKETS).cast_mut().cast(), socket.cast()) };
}
