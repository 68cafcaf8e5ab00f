//! `sock_release`: the application closes a socket. A UDP socket ends here; of
//! a TCP connection it is known from here on that its client ends it.

use aya_ebpf::programs::SockContext;
use mesh_common::frontend::{TCP, UDP};

use crate::{context, storage, udp};

const PASS: i32 = 1;

#[inline(always)]
pub fn released(ctx: &SockContext) -> i32 {
    // SAFETY: the kernel hands each program a valid context of this type.
    let protocol = unsafe { (&raw const (*ctx.sock).protocol).read_volatile() };
    if protocol == u32::from(UDP) {
        udp::released(context::socket_cookie(ctx));
    } else if protocol == u32::from(TCP)
        && let Some(socket) = storage::get(ctx.sock)
    {
        socket.released = 1;
    }
    PASS
}
