//! What the kernel knows of a namespace's TCP connections, by `sock_diag(7)`.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::Namespace;

/// A live TCP connection, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStatistics {
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Smoothed round trip.
    pub rtt_us: u32,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
const INET_DIAG_INFO: u16 = 2;
/// Bit of the state in `idiag_states`.
const ESTABLISHED: u32 = 1 << 1;
/// Sizes of `nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEADER: usize = 16;
pub(super) const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// The cookies of all TCP sockets of a namespace that are connected, or were
/// and haven't closed.
pub fn tcp_sockets(namespace: &Namespace) -> io::Result<HashSet<u64>> {
    /// All states but closed, listening, and those without a socket of their own.
    const CONNECTED: u32 = ESTABLISHED | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
    let socket = open(namespace)?;
    let mut found = HashSet::new();
    let ask = Ask { protocol: libc::IPPROTO_TCP as u8, states: CONNECTED, extensions: 0 };
    dump(&socket, ask, |message| found.extend(cookie(message)))?;
    Ok(found)
}

/// The UDP sockets of a namespace that have a port, by cookie: the addresses
/// that they are bound to.
pub fn udp_sockets(namespace: &Namespace) -> io::Result<HashMap<u64, SocketAddr>> {
    let socket = open(namespace)?;
    let mut found = HashMap::new();
    let ask = Ask { protocol: libc::IPPROTO_UDP as u8, states: u32::MAX, extensions: 0 };
    dump(&socket, ask, |message| {
        if let (Some(cookie), Some(local)) = (cookie(message), address_at(message, 4, 8)) {
            found.insert(cookie, local);
        }
    })?;
    Ok(found)
}

/// An address of `inet_diag_msg`: its port and its bytes begin there.
pub(super) fn address_at(message: &[u8], port: usize, ip: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array_at(message, port)?);
    let ip: IpAddr = if i32::from(*message.first()?) == libc::AF_INET {
        Ipv4Addr::from(array_at::<4>(message, ip)?).into()
    } else {
        Ipv6Addr::from(array_at::<16>(message, ip)?).to_canonical()
    };
    Some(SocketAddr::new(ip, port))
}

/// The established connections of a namespace, by socket cookie.
pub fn tcp_connections(namespace: &Namespace) -> io::Result<HashMap<u64, TcpStatistics>> {
    let socket = open(namespace)?;
    let mut found = HashMap::new();
    let ask = Ask {
        protocol: libc::IPPROTO_TCP as u8,
        states: ESTABLISHED,
        extensions: 1 << (INET_DIAG_INFO - 1),
    };
    dump(&socket, ask, |message| {
        if let Some((cookie, statistics)) = connection(message) {
            found.insert(cookie, statistics);
        }
    })?;
    Ok(found)
}

/// Talks to the kernel about the sockets of a namespace.
pub(super) fn open(namespace: &Namespace) -> io::Result<Socket> {
    namespace.run(|| {
        let kind = Type::from(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
        Socket::new(
            Domain::from(libc::AF_NETLINK),
            kind,
            Some(Protocol::from(libc::NETLINK_SOCK_DIAG)),
        )
    })?
}

/// Which sockets are asked for, and what of them.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub protocol: u8,
    /// A bit for each state.
    pub states: u32,
    /// A bit for each attribute.
    pub extensions: u8,
}

/// Shows every socket, of both families, as `inet_diag_msg` with attributes.
pub(super) fn dump(socket: &Socket, ask: Ask, mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut body = [0u8; REQUEST];
        body[0] = family as u8;
        body[1] = ask.protocol;
        body[2] = ask.extensions;
        body[4..8].copy_from_slice(&ask.states.to_ne_bytes());
        socket.send(&request(SOCK_DIAG_BY_FAMILY, DUMP, body))?;
        loop {
            let length = (&*socket).read(&mut buffer)?;
            if take_in(&buffer[..length], &mut show)? {
                break;
            }
        }
    }
    Ok(())
}

/// `nlmsghdr` and `inet_diag_req_v2`.
pub(super) fn request(kind: u16, flags: u16, body: [u8; REQUEST]) -> [u8; HEADER + REQUEST] {
    let mut request = [0u8; HEADER + REQUEST];
    request[..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[HEADER..].copy_from_slice(&body);
    request
}

/// Takes in a batch of messages; `true` after the last.
fn take_in(mut bytes: &[u8], show: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = (length as usize).clamp(HEADER, bytes.len().max(HEADER));
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return verdict(bytes).map(|()| true),
            _ => show(bytes.get(HEADER..length).unwrap_or_default()),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// What an `NLMSG_ERROR` says: 0 is an acknowledgement.
fn verdict(message: &[u8]) -> io::Result<()> {
    match u32_at(message, HEADER).unwrap_or(0) as i32 {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

/// Sends a request that is answered by success or failure.
pub(super) fn order(socket: &Socket, request: &[u8]) -> io::Result<()> {
    socket.send(request)?;
    let mut buffer = [0; 1024];
    let length = (&*socket).read(&mut buffer)?;
    verdict(&buffer[..length])
}

/// `inet_diag_msg`, and the attribute with `tcp_info` behind it.
fn connection(message: &[u8]) -> Option<(u64, TcpStatistics)> {
    let info = attribute(message, INET_DIAG_INFO)?;
    let statistics = TcpStatistics {
        rtt_us: u32_at(info, 68)?,
        // The SYN counts as a byte acknowledged.
        bytes_sent: u64_at(info, 120)?.saturating_sub(1),
        bytes_received: u64_at(info, 128)?,
    };
    Some((cookie(message)?, statistics))
}

pub(super) fn cookie(message: &[u8]) -> Option<u64> {
    Some(u64::from(u32_at(message, 44)?) | u64::from(u32_at(message, 48)?) << 32)
}

/// An attribute behind `inet_diag_msg`.
pub(super) fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut attributes = message.get(MESSAGE..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length).max(4);
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream, UdpSocket},
    };

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_connection_is_found_and_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[7; 1000]).unwrap();
            server.read_exact(&mut [0; 1000]).unwrap();
            server.write_all(&[7; 30]).unwrap();
            client.read_exact(&mut [0; 30]).unwrap();
            let found = tcp_connections(&Namespace::current().unwrap()).unwrap();
            let statistics = found[&SockRef::from(&client).cookie().unwrap()];
            assert_eq!((statistics.bytes_sent, statistics.bytes_received), (1000, 30));
            assert!(statistics.rtt_us > 0);
        }
    }

    #[test]
    fn udp_sockets_are_found_connected_or_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (one, other) =
                (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            other.connect(one.local_addr().unwrap()).unwrap();
            let found = udp_sockets(&Namespace::current().unwrap()).unwrap();
            for socket in [&one, &other] {
                let cookie = SockRef::from(socket).cookie().unwrap();
                assert_eq!(found.get(&cookie), Some(&socket.local_addr().unwrap()));
            }
            let gone = SockRef::from(&one).cookie().unwrap();
            drop(one);
            assert!(!udp_sockets(&Namespace::current().unwrap()).unwrap().contains_key(&gone));
        }
    }

    #[test]
    fn truncated_messages_are_passed_over() {
        for length in 0..200 {
            let bytes = vec![0xff; length];
            let _ = take_in(&bytes, &mut |message: &[u8]| {
                let _ = cookie(message);
            });
            assert_eq!(connection(&bytes[..length.min(MESSAGE)]), None);
        }
    }
}
