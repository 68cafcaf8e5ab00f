//! How long a backend takes to answer: from the first segment of a request to
//! the first segment of its answer.
//!
//! Handshake and round trip don't tell: the peer's kernel answers those, however
//! slow the application is. These two programs see every packet of the captured
//! sockets, so they are attached only while a service is balanced by response
//! time.

use aya_ebpf::{bindings::bpf_sock, helpers::bpf_ktime_get_ns, programs::SkBuffContext};
use mesh_common::{
    backend::RECENT,
    socket::{Socket, route, stage},
};

use crate::{backend, count, eject, storage};

const PASS: i32 = 1;
const IPPROTO_TCP: u8 = 6;

/// A request begins with the first data that leaves while nothing is awaited.
#[inline(always)]
pub fn sent(ctx: &SkBuffContext) -> i32 {
    if let Some(socket) = established(ctx)
        && socket.asked_ns == 0
        && has_data(ctx)
    {
        // SAFETY: takes nothing.
        socket.asked_ns = unsafe { bpf_ktime_get_ns() };
    }
    PASS
}

/// Its answer begins with the first data that comes back.
#[inline(always)]
pub fn received(ctx: &SkBuffContext) -> i32 {
    if let Some(socket) = established(ctx)
        && socket.asked_ns != 0
        && has_data(ctx)
    {
        // SAFETY: takes nothing.
        let now = unsafe { bpf_ktime_get_ns() };
        let waited = now.saturating_sub(socket.asked_ns);
        socket.asked_ns = 0;
        if let Some(backend) = backend::backend(socket.backend) {
            // SAFETY: a live map value.
            unsafe {
                (*backend).ewma = (*backend).ewma.observe(waited, now);
                let nth = count::add(&raw mut (*backend).answers, 1) as usize % RECENT;
                (*backend).recent_us[nth] = micros(waited);
                count::add(&raw mut (*backend).waited_ns, waited);
                eject::answered(backend, socket, now);
            }
        }
    }
    PASS
}

/// What doesn't fit is an hour and more.
#[inline(always)]
fn micros(ns: u64) -> u32 {
    let us = ns / 1000;
    if us > u64::from(u32::MAX) { u32::MAX } else { us as u32 }
}

/// The storage of the packet's socket, if it is a live one to a backend.
#[inline(always)]
fn established<'a>(ctx: &SkBuffContext) -> Option<&'a mut Socket> {
    // SAFETY: the kernel hands each program a valid context of this type.
    let sk: *mut bpf_sock = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    storage::get(sk)
        .filter(|socket| socket.route == route::BACKEND && socket.stage >= stage::ESTABLISHED)
}

/// Whether the TCP segment carries data. The packet begins with its IP header.
#[inline(always)]
fn has_data(ctx: &SkBuffContext) -> bool {
    let Ok(first) = ctx.load::<u8>(0) else { return false };
    let header = match first >> 4 {
        4 if ctx.load::<u8>(9) == Ok(IPPROTO_TCP) => u32::from(first & 15) * 4,
        // One with extension headers is left out: a sample less.
        6 if ctx.load::<u8>(6) == Ok(IPPROTO_TCP) => 40,
        _ => return false,
    };
    let Ok(offset) = ctx.load::<u8>(header as usize + 12) else { return false };
    ctx.len() > header + u32::from(offset >> 4) * 4
}
