//! Reading and writing the address that a socket call is about, and the
//! verdict on it.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval,
        generated::bpf_get_current_cgroup_id,
    },
    programs::SockAddrContext,
};
use mesh_common::{address::Address, reason::Reason, socket::Socket};

/// What a hook tells the kernel.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// Go on, with whatever address now stands in the context.
    Proceed,
    /// Fail the call with this error number.
    Refuse(i32),
}

const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

/// The error that an application sees for a call that was refused.
#[inline(always)]
pub fn errno(reason: Reason) -> i32 {
    match reason {
        Reason::FailedClosed => ECONNREFUSED,
        Reason::NoSocketStorage => ENOMEM,
        Reason::RateLimited | Reason::TooManyConnections | Reason::OverConcurrencyLimit => EAGAIN,
        _ => EHOSTUNREACH,
    }
}

impl From<Verdict> for i32 {
    #[inline(always)]
    fn from(verdict: Verdict) -> i32 {
        match verdict {
            Verdict::Proceed => 1,
            Verdict::Refuse(errno) => {
                // SAFETY: takes an integer; 0 beside it refuses with this error.
                unsafe { bpf_set_retval(-errno) };
                0
            }
        }
    }
}

/// The address family of a hook, which decides the fields it may touch.
pub trait Family {
    /// Length of this family's `bpf_sock_tuple`, and its loopback address.
    const IS_V4: bool;
    fn read(ctx: &SockAddrContext) -> Address;
    /// Whether the address fits this family; nothing is written where not.
    fn write(ctx: &SockAddrContext, address: &Address) -> bool;
    /// The address that the socket is bound to, where it is.
    fn source(ctx: &SockAddrContext) -> Option<Address>;
}

pub struct V4;
pub struct V6;

// The context may only be read and written in words at fixed offsets; volatile
// access keeps the compiler from merging or re-ordering them.
macro_rules! load {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands each program a valid context of this type.
        unsafe { (&raw const (*$ctx.sock_addr).$($field)+).read_volatile() }
    };
}
macro_rules! store {
    ($ctx:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as for reading; these fields are writable in every hook used.
        unsafe { (&raw mut (*$ctx.sock_addr).$($field)+).write_volatile($value) }
    };
}

impl Family for V4 {
    const IS_V4: bool = true;

    #[inline(always)]
    fn read(ctx: &SockAddrContext) -> Address {
        Address::v4(load!(ctx, user_ip4), load!(ctx, user_port) as u16)
    }

    #[inline(always)]
    fn write(ctx: &SockAddrContext, address: &Address) -> bool {
        if !address.is_v4() {
            return false;
        }
        store!(ctx, address.v4_be(), user_ip4);
        store!(ctx, u32::from(address.port_be), user_port);
        true
    }

    #[inline(always)]
    fn source(ctx: &SockAddrContext) -> Option<Address> {
        // SAFETY: `sk` is never null in these hooks.
        let ip = unsafe { (&raw const (*socket(ctx)).src_ip4).read_volatile() };
        (ip != 0).then(|| Address::v4(ip, 0))
    }
}

impl Family for V6 {
    const IS_V4: bool = false;

    #[inline(always)]
    fn read(ctx: &SockAddrContext) -> Address {
        let words = [
            load!(ctx, user_ip6[0]),
            load!(ctx, user_ip6[1]),
            load!(ctx, user_ip6[2]),
            load!(ctx, user_ip6[3]),
        ];
        Address::v6(words, load!(ctx, user_port) as u16)
    }

    #[inline(always)]
    fn write(ctx: &SockAddrContext, address: &Address) -> bool {
        store!(ctx, address.ip_be[0], user_ip6[0]);
        store!(ctx, address.ip_be[1], user_ip6[1]);
        store!(ctx, address.ip_be[2], user_ip6[2]);
        store!(ctx, address.ip_be[3], user_ip6[3]);
        store!(ctx, u32::from(address.port_be), user_port);
        true
    }

    #[inline(always)]
    fn source(ctx: &SockAddrContext) -> Option<Address> {
        let sk = socket(ctx);
        // SAFETY: `sk` is never null in these hooks.
        let words = unsafe {
            [
                (&raw const (*sk).src_ip6[0]).read_volatile(),
                (&raw const (*sk).src_ip6[1]).read_volatile(),
                (&raw const (*sk).src_ip6[2]).read_volatile(),
                (&raw const (*sk).src_ip6[3]).read_volatile(),
            ]
        };
        (words != [0; 4]).then(|| Address::v6(words, 0))
    }
}

#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u8 {
    load!(ctx, protocol) as u8
}

#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: as in `load!`; the kernel rewrites this read into the socket.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The local port of the socket, host order; 0 while it has none.
#[inline(always)]
pub fn source_port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: `sk` is never null in these hooks.
    unsafe { (&raw const (*socket(ctx)).src_port).read_volatile() as u16 }
}

#[inline(always)]
pub fn mark(ctx: &SockAddrContext) -> u32 {
    // SAFETY: `sk` is never null in these hooks.
    unsafe { (&raw const (*socket(ctx)).mark).read_volatile() }
}

#[inline(always)]
pub fn netns_cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: any context of these hooks is valid for this helper.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

#[inline(always)]
pub fn socket_cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: any context of these hooks is valid for this helper.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Whose socket this is.
#[derive(Clone, Copy)]
pub struct Owner {
    pub pid: u32,
    pub cgroup: u64,
    pub netns: u64,
}

impl Owner {
    #[inline(always)]
    pub fn write(&self, socket: &mut Socket) {
        socket.pid = self.pid;
        socket.cgroup = self.cgroup;
        socket.netns = self.netns;
    }
}

#[inline(always)]
pub fn owner(ctx: &SockAddrContext) -> Owner {
    // SAFETY: these helpers take nothing.
    let (pid, cgroup) =
        unsafe { ((bpf_get_current_pid_tgid() >> 32) as u32, bpf_get_current_cgroup_id()) };
    Owner { pid, cgroup, netns: netns_cookie(ctx) }
}
