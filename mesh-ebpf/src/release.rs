//! `sock_release`: the application closes a socket. A UDP socket ends here; of
//! a TCP connection it is known from here on that its client ends it.

use aya_ebpf::{EbpfContext as _, helpers::bpf_get_socket_cookie, programs::SockContext};
use mesh_common::frontend::{TCP, UDP};

use crate::{storage, udp};

const PASS: i32 = 1;

#[inline(always)]
pub fn released(ctx: &SockContext) -> i32 {
    // SAFETY: the kernel hands each program a valid context of this type.
    let protocol = unsafe { (&raw const (*ctx.sock).protocol).read_volatile() };
    if protocol == u32::from(UDP) {
        // SAFETY: any context of this hook is valid for this helper.
        udp::released(unsafe { bpf_get_socket_cookie(ctx.as_ptr()) });
    } else if protocol == u32::from(TCP)
        && let Some(socket) = storage::get(ctx.sock)
    {
        socket.released = 1;
    }
    PASS
}
