//! Ends sockets of others, by `sock_diag(7)`: their owners see ECONNABORTED,
//! and the other end of a TCP connection sees a reset.

use std::{io, net::SocketAddr};

use super::{
    Namespace,
    diag::{self, Ask, REQUEST, address_at, array_at, attribute, u32_at},
};

const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK`
const ORDER: u16 = 0x5;
const INET_DIAG_MARK: u16 = 15;
/// Bits of the TCP states in which there is another end: all but CLOSE, LISTEN,
/// `TIME_WAIT` and `NEW_SYN_RECV`.
const WITH_PEER: u32 = 0b1011_0011_1110;
/// A connected UDP socket is in this state.
const ESTABLISHED: u32 = 1 << 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    Tcp,
    /// Connected ones only.
    Udp,
}

/// A socket that has another end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSocket {
    /// The kernel's name for it, as the hooks report it.
    pub cookie: u64,
    pub remote: SocketAddr,
    pub mark: u32,
}

/// Ends those sockets of a namespace that are `wanted`; returns how many.
pub fn destroy(
    namespace: &Namespace,
    kind: SocketKind,
    mut wanted: impl FnMut(&LiveSocket) -> bool,
) -> io::Result<usize> {
    let (protocol, states) = match kind {
        SocketKind::Tcp => (libc::IPPROTO_TCP as u8, WITH_PEER),
        SocketKind::Udp => (libc::IPPROTO_UDP as u8, ESTABLISHED),
    };
    let socket = diag::open(namespace)?;
    let mut requests = Vec::new();
    diag::dump(&socket, Ask { protocol, states, extensions: 0 }, |message| {
        if let Some((live, id)) = live(message)
            && wanted(&live)
        {
            let mut body = [0; REQUEST];
            body[0] = message[0];
            body[1] = protocol;
            // `inet_diag_sockid` stands in both, the cookie included: a socket
            // that took the place of this one isn't found by it.
            body[8..].copy_from_slice(&id);
            requests.push(diag::request(SOCK_DESTROY, ORDER, body));
        }
    })?;
    let mut destroyed = 0;
    for request in requests {
        match diag::order(&socket, &request) {
            Ok(()) => destroyed += 1,
            // It has ended by itself meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(destroyed)
}

/// What an `inet_diag_msg` says, and its `inet_diag_sockid`.
fn live(message: &[u8]) -> Option<(LiveSocket, [u8; 48])> {
    let mark = attribute(message, INET_DIAG_MARK).and_then(|value| u32_at(value, 0));
    let live = LiveSocket {
        cookie: diag::cookie(message)?,
        remote: address_at(message, 6, 24)?,
        mark: mark.unwrap_or(0),
    };
    Some((live, array_at(message, 4)?))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{TcpListener, TcpStream, UdpSocket},
    };

    use super::*;

    fn cookie(socket: &impl std::os::fd::AsFd) -> u64 {
        socket2::SockRef::from(socket).cookie().unwrap()
    }

    #[test]
    fn only_the_wanted_connection_ends() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let connect = || {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                (client, listener.accept().unwrap().0)
            };
            let ((mut one, mut server), (other, _other_server)) = (connect(), connect());
            let wanted = cookie(&one);
            let here = Namespace::current().unwrap();
            let ended = destroy(&here, SocketKind::Tcp, |live| {
                live.cookie == wanted && live.remote == listener.local_addr().unwrap()
            });
            assert_eq!(ended.unwrap(), 1);
            let error = one.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert!(other.take_error().unwrap().is_none());
        }
    }

    #[test]
    fn a_connected_udp_socket_ends() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let wanted = cookie(&client);
        let here = Namespace::current().unwrap();
        let ended = destroy(&here, SocketKind::Udp, |live| live.cookie == wanted);
        assert_eq!(ended.unwrap(), 1);
        assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }

    #[test]
    fn truncated_messages_are_passed_over() {
        for length in 0..200 {
            let _ = live(&vec![0xff; length]);
        }
    }
}
