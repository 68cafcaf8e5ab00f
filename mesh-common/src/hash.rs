//! Hashes of what stays the same on every node: addresses and ports.
//!
//! Both paths hash alike, so a client keeps its instance when its service
//! changes path. Not for keys that an attacker may choose to make them collide:
//! the worst that comes of that here is an uneven share of his own traffic.

use crate::{address::Address, select::scale};

/// Spreads 64 bits evenly: the finaliser of `SplitMix64` (Steele, Lea, Flood
/// 2014, with Stafford's constants). A bijection, with 0 led away from itself.
#[inline(always)]
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash of an IP address, in the words of [`Address::ip_be`]. By value and
/// not by byte, so that nodes of either byte order agree.
#[inline(always)]
pub const fn ip(ip_be: [u32; 4]) -> u64 {
    let high = pair(ip_be[0], ip_be[1]);
    let low = pair(ip_be[2], ip_be[3]);
    mix(mix(high) ^ low)
}

/// The hash of an address and port.
#[inline(always)]
pub const fn address(address: &Address) -> u64 {
    mix(ip(address.ip_be) ^ address.port() as u64)
}

/// The same key once more: for what comes after `round` picks that were not
/// usable. Round 0 is the key itself.
#[inline(always)]
pub const fn again(hash: u64, round: u32) -> u64 {
    if round == 0 { hash } else { mix(hash ^ ((round as u64) << 32 | 0x5bd1_e995)) }
}

/// The place of a hash among `bound` ones.
#[inline(always)]
pub fn place(hash: u64, bound: u32) -> u32 {
    scale((hash >> 32) as u32, bound)
}

#[inline(always)]
const fn pair(high_be: u32, low_be: u32) -> u64 {
    (u32::from_be(high_be) as u64) << 32 | u32::from_be(low_be) as u64
}

/// The hash of text: FNV-1a, spread once more. For headers, cookies and paths,
/// which only the agent sees.
pub fn text(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::SocketAddr;

    use super::*;

    /// All nodes, and all versions, have to agree.
    #[test]
    fn known_values() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "SplitMix64's first output for seed 0");
        let peer: SocketAddr = "10.1.0.5:80".parse().unwrap();
        assert_eq!(address(&Address::from(peer)), 0x50a9_4a30_8434_b102);
        assert_eq!(text(b"user-7"), 0x05f4_4f7f_e485_d83c);
    }

    /// χ² of addresses that follow each other, over 100 places: 148.2 is the
    /// 0.1 % point of 99 degrees of freedom.
    #[test]
    fn neighbours_are_spread_evenly_in_every_round() {
        for round in 0..3 {
            let mut counts = [0u32; 100];
            for n in 0..100_000_u32 {
                let ip_be = [0, 0, crate::address::V4_MAPPED_BE, (0x0a00_0000 + n).to_be()];
                counts[place(again(ip(ip_be), round), 100) as usize] += 1;
            }
            let chi: f64 = counts.iter().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
            assert!(chi < 148.2, "round {round}: χ² {chi}");
        }
    }

    #[test]
    fn ports_and_both_halves_matter() {
        let of = |text: &str| address(&Address::from(text.parse::<SocketAddr>().unwrap()));
        assert_ne!(of("10.1.0.5:80"), of("10.1.0.5:81"));
        assert_ne!(of("[fd00::1]:80"), of("[fd01::1]:80"));
        assert_ne!(of("[1::2]:80"), of("[2::1]:80"));
        assert_eq!(of("10.1.0.5:80"), of("[::ffff:10.1.0.5]:80"));
    }
}
