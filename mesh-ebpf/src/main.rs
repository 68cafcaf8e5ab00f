//! The kernel programs, one entry point per hook.
//!
//! Each hook asks one question and answers it in one expression; how it is
//! answered stands in the module of its name. A hook that fails leaves the
//! socket alone, except where leaving it alone would break a promise (a dead
//! virtual address, a service that fails closed): then it refuses.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]

mod affinity;
mod agent;
mod answer;
mod backend;
mod bypass;
mod client;
mod congestion;
mod connect;
mod context;
mod count;
mod dns;
mod eject;
mod ends;
mod lifecycle;
mod limit;
mod log;
mod maps;
mod mend;
mod message;
mod pace;
mod peer;
mod pick;
mod release;
mod report;
mod scope;
mod storage;
mod timeouts;
mod udp;
mod unreached;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, sk_msg, sock_ops, stream_verdict},
    programs::{SkBuffContext, SkMsgContext, SockAddrContext, SockContext, SockOpsContext},
};
use context::{V4, V6};

#[cgroup_sock_addr(connect4)]
pub fn mesh_connect4(ctx: SockAddrContext) -> i32 {
    connect::decide::<V4>(&ctx).into()
}

#[cgroup_sock_addr(connect6)]
pub fn mesh_connect6(ctx: SockAddrContext) -> i32 {
    connect::decide::<V6>(&ctx).into()
}

#[cgroup_sock_addr(sendmsg4)]
pub fn mesh_sendmsg4(ctx: SockAddrContext) -> i32 {
    message::send::<V4>(&ctx).into()
}

#[cgroup_sock_addr(sendmsg6)]
pub fn mesh_sendmsg6(ctx: SockAddrContext) -> i32 {
    message::send::<V6>(&ctx).into()
}

#[cgroup_sock_addr(recvmsg4)]
pub fn mesh_recvmsg4(ctx: SockAddrContext) -> i32 {
    message::receive::<V4>(&ctx).into()
}

#[cgroup_sock_addr(recvmsg6)]
pub fn mesh_recvmsg6(ctx: SockAddrContext) -> i32 {
    message::receive::<V6>(&ctx).into()
}

#[cgroup_sock_addr(getpeername4)]
pub fn mesh_peername4(ctx: SockAddrContext) -> i32 {
    peer::name::<V4>(&ctx).into()
}

#[cgroup_sock_addr(getpeername6)]
pub fn mesh_peername6(ctx: SockAddrContext) -> i32 {
    peer::name::<V6>(&ctx).into()
}

#[sock_ops]
pub fn mesh_lifecycle(ctx: SockOpsContext) -> u32 {
    lifecycle::follow(&ctx)
}

#[cgroup_sock(sock_release)]
pub fn mesh_release(ctx: SockContext) -> i32 {
    release::released(&ctx)
}

#[cgroup_skb(egress)]
pub fn mesh_asked(ctx: SkBuffContext) -> i32 {
    answer::sent(&ctx)
}

#[cgroup_skb(ingress)]
pub fn mesh_answered(ctx: SkBuffContext) -> i32 {
    answer::received(&ctx)
}

/// Runs for messages of bypassed sockets.
#[sk_msg]
pub fn mesh_bypass(ctx: SkMsgContext) -> u32 {
    bypass::send(&ctx)
}

/// Runs for what reaches bypassed sockets by TCP.
#[stream_verdict]
pub fn mesh_by_tcp(_: SkBuffContext) -> u32 {
    bypass::received()
}

/// Never attached: the agent runs it.
#[cgroup_skb(egress)]
pub fn mesh_mend(ctx: SkBuffContext) -> i32 {
    mend::take_off(&ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
