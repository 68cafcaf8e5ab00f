//! The addresses of a connection, out of the context of `sock_ops`.

use aya_ebpf::programs::SockOpsContext;
use mesh_common::address::Address;

const AF_INET: u32 = 2;

macro_rules! load {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands each program a valid context of this type.
        unsafe { (&raw const (*$ctx.ops).$($field)+).read_volatile() }
    };
}

/// The local address, as the agent sees its peer: v4 for a v4-mapped socket.
#[inline(always)]
pub fn client(ctx: &SockOpsContext) -> Address {
    // Both are read whatever the family: two reads in two branches are merged
    // into one at a computed offset, which the verifier forbids.
    let v4 = load!(ctx, local_ip4);
    let v6 = [
        load!(ctx, local_ip6[0]),
        load!(ctx, local_ip6[1]),
        load!(ctx, local_ip6[2]),
        load!(ctx, local_ip6[3]),
    ];
    let port_be = (load!(ctx, local_port) as u16).to_be();
    if load!(ctx, family) == AF_INET { Address::v4(v4, port_be) } else { Address::v6(v6, port_be) }
}

/// The other end's address, in the same form.
#[inline(always)]
pub fn remote(ctx: &SockOpsContext) -> Address {
    let v4 = load!(ctx, remote_ip4);
    let v6 = [
        load!(ctx, remote_ip6[0]),
        load!(ctx, remote_ip6[1]),
        load!(ctx, remote_ip6[2]),
        load!(ctx, remote_ip6[3]),
    ];
    // The kernel hands out four bytes, of which the port is the last two.
    let port_be = (load!(ctx, remote_port) >> 16) as u16;
    if load!(ctx, family) == AF_INET { Address::v4(v4, port_be) } else { Address::v6(v6, port_be) }
}
