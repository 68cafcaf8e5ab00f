//! A transport address as the kernel hands it out: IPv4 as v4-mapped IPv6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Address and port. IPv4 is kept v4-mapped (`::ffff:a.b.c.d`), so one key
/// layout serves both families and a v4-mapped socket needs no case of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Four words in network byte order, as in `bpf_sock_addr.user_ip6`.
    pub ip_be: [u32; 4],
    pub port_be: u16,
    pub zero: u16,
}

crate::plain_bytes!(Address);

/// The third word of a v4-mapped address, `::ffff:0:0`.
pub const V4_MAPPED_BE: u32 = 0x0000_ffff_u32.to_be();

impl Address {
    #[inline(always)]
    pub const fn v4(ip_be: u32, port_be: u16) -> Self {
        Self { ip_be: [0, 0, V4_MAPPED_BE, ip_be], port_be, zero: 0 }
    }

    #[inline(always)]
    pub const fn v6(ip_be: [u32; 4], port_be: u16) -> Self {
        Self { ip_be, port_be, zero: 0 }
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.ip_be[0] == 0 && self.ip_be[1] == 0 && self.ip_be[2] == V4_MAPPED_BE
    }

    /// The IPv4 address, in network byte order, of a v4-mapped one.
    #[inline(always)]
    pub const fn v4_be(&self) -> u32 {
        self.ip_be[3]
    }

    #[inline(always)]
    pub const fn port(&self) -> u16 {
        u16::from_be(self.port_be)
    }

    /// Whether it never leaves its namespace.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            self.v4_be().to_ne_bytes()[0] == 127
        } else {
            self.ip_be[0] == 0
                && self.ip_be[1] == 0
                && self.ip_be[2] == 0
                && self.ip_be[3] == 1_u32.to_be()
        }
    }

    /// The address in the form the rest of Rust uses.
    pub fn to_socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port())
    }

    pub fn ip(&self) -> IpAddr {
        if self.is_v4() {
            return IpAddr::V4(Ipv4Addr::from(u32::from_be(self.v4_be())));
        }
        let mut octets = [0u8; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.ip_be) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut ip_be = [0u32; 4];
        for (word, chunk) in ip_be.iter_mut().zip(octets.chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self { ip_be, port_be: address.port().to_be(), zero: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.1.2.3:80", "[fd00::1]:443", "0.0.0.0:0", "[::]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).to_socket_addr(), address, "{text}");
        }
    }

    #[test]
    fn v4_and_v4_mapped_are_one_key() {
        let v4: SocketAddr = "10.96.0.11:9080".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.96.0.11]:9080".parse().unwrap();
        assert_eq!(Address::from(v4), Address::from(mapped));
        assert!(Address::from(mapped).is_v4());
    }

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Address>(), align_of::<Address>()), (20, 4));
    }
}
