//! Lines for rare events, through aya-log. How much is said is a setting that
//! the agent changes at run time; nothing is formatted below that level.

use core::net::Ipv6Addr;

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, error};
use mesh_common::{address::Address, reason::Reason};

use crate::maps::SETTINGS;

const ERROR: u32 = 1;
const DEBUG: u32 = 4;

#[inline(always)]
fn enabled(level: u32) -> bool {
    SETTINGS.get(0).is_some_and(|settings| settings.log_level >= level)
}

/// A socket call was refused.
#[inline(always)]
pub fn refused<C: EbpfContext>(ctx: &C, destination: &Address, reason: Reason) {
    if enabled(DEBUG) {
        let port = destination.port();
        debug!(ctx, "refused {:i} port {}: reason {}", shown(destination), port, reason as u32);
    }
}

/// A map was full where losing the entry does harm.
#[inline(always)]
pub fn lost_original<C: EbpfContext>(ctx: &C, client: &Address) {
    if enabled(ERROR) {
        error!(ctx, "map ORIGINALS is full: {:i} port {} is lost", shown(client), client.port());
    }
}

#[inline(always)]
fn shown(address: &Address) -> Ipv6Addr {
    let mut words = [0u16; 8];
    let mut index = 0;
    while index < 4 {
        let word = u32::from_be(address.ip_be[index]);
        words[2 * index] = (word >> 16) as u16;
        words[2 * index + 1] = word as u16;
        index += 1;
    }
    Ipv6Addr::from(words)
}
