//! Opening sockets in a namespace, marked as the agent's own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

use nix::fcntl::{FcntlArg, fcntl};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
};

use super::Namespace;

/// What all of the agent's sockets have in common.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// `SO_MARK`, by which the hooks know the agent's sockets; 0 sets none
    /// (no privilege needed, nothing captured).
    pub mark: u32,
}

/// Above what connections get. The kernel's table of descriptors reaches up to
/// here then, at 8 bytes each.
const FIRST_LISTENER: i32 = 16_384;

/// Connections waiting to be accepted, per listener.
const BACKLOG: i32 = 4096;

/// A TCP listener in `namespace`. Several may share the address: each worker
/// has its own, and the kernel spreads connections over them.
pub fn listen_tcp(
    namespace: &Namespace,
    address: SocketAddr,
    options: SocketOptions,
) -> io::Result<TcpListener> {
    let socket = namespace.run(|| open(address, Type::STREAM, options))??;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    // Accepted connections inherit these; failing, they are slower at worst.
    let _ = socket.set_tcp_nodelay(true);
    let _ = keep_alive(&socket);
    if address.ip().is_loopback() {
        stay_inside(&socket);
    }
    socket.listen(BACKLOG)?;
    let socket = raised(socket);
    TcpListener::from_std(socket.into())
}

/// BBR paces every packet by a timer, also where it never leaves the node: the
/// hooks give the other end the same (mesh-ebpf's `congestion`).
fn stay_inside(socket: &Socket) {
    if socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr")) {
        let usual = socket.set_tcp_congestion(b"cubic");
        // No kernel is without it.
        let _ = usual.or_else(|_| socket.set_tcp_congestion(b"reno"));
    }
}

/// The same socket under a high descriptor.
///
/// When a process is killed, the kernel closes its descriptors from the highest
/// down. A client whose connection broke connects again at once; a listener
/// that is still open would take it in, only to reset it a moment later. So
/// listeners go before connections.
fn raised(socket: Socket) -> Socket {
    let flag = FcntlArg::F_DUPFD_CLOEXEC(FIRST_LISTENER);
    match fcntl(&socket, flag) {
        // SAFETY: fcntl() has just made this descriptor, and nobody else has it.
        Ok(descriptor) => unsafe { OwnedFd::from_raw_fd(descriptor) }.into(),
        // The limit of open files is lower: a nicety less.
        Err(_) => socket,
    }
}

/// A TCP connection from `namespace`, as the pod itself would make it.
pub async fn connect_tcp(
    namespace: &Namespace,
    address: SocketAddr,
    options: SocketOptions,
) -> io::Result<TcpStream> {
    connect_tcp_with(namespace, address, options, |_| ()).await
}

/// [`connect_tcp`] by a socket that something is done to first.
pub async fn connect_tcp_with(
    namespace: &Namespace,
    address: SocketAddr,
    options: SocketOptions,
    prepare: impl FnOnce(BorrowedFd<'_>),
) -> io::Result<TcpStream> {
    let socket = namespace.run(|| open(address, Type::STREAM, options))??;
    prepare(socket.as_fd());
    let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A UDP socket in `namespace`, bound to `address`.
pub fn udp_socket(
    namespace: &Namespace,
    address: SocketAddr,
    options: SocketOptions,
) -> io::Result<UdpSocket> {
    let socket = namespace.run(|| open(address, Type::DGRAM, options))??;
    if address.port() != 0 {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    UdpSocket::from_std(socket.into())
}

/// How many bytes can be read (`FIONREAD`).
pub fn bytes_waiting(socket: &impl AsFd) -> io::Result<i32> {
    let mut waiting = 0;
    // SAFETY: FIONREAD writes one int, into this one.
    let result = unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, std::ptr::from_mut(&mut waiting))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(waiting) }
}

/// The next datagram of a connected socket, or the error that the network
/// reported: a port that nobody listens on shows as an error alone, and waiting
/// for something to read would miss it.
pub async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    /// No datagram is longer.
    const LONGEST: usize = 65_535;
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let received = if ready.is_error() {
            socket.try_io(Interest::ERROR, || match socket.take_error()? {
                Some(error) => Err(error),
                None => Err(io::ErrorKind::WouldBlock.into()),
            })
        } else {
            // Room is made only now: a thousand silent peers hold none.
            let mut datagram = Vec::with_capacity(LONGEST);
            socket.try_recv_buf(&mut datagram).map(|_| datagram)
        };
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// The source address that a socket of `namespace` would have towards `target`:
/// the kernel chooses it, and no packet is sent.
pub fn source_address(
    namespace: &Namespace,
    target: SocketAddr,
    options: SocketOptions,
) -> io::Result<IpAddr> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    namespace.run(|| {
        let socket = open(any, Type::DGRAM, options)?;
        socket.connect(&target.into())?;
        let local = socket.local_addr()?.as_socket();
        local.map(|local| local.ip()).ok_or_else(|| io::Error::other("no internet address"))
    })?
}

fn open(address: SocketAddr, kind: Type, options: SocketOptions) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    if options.mark != 0 {
        socket.set_mark(options.mark)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Lets the kernel find out about peers that vanished without a word.
pub fn keep_alive<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.into().set_tcp_keepalive(&keepalive)
}

/// Breaks a connection whose peer acknowledges nothing for this long: its node
/// is gone, or the way to it.
pub fn user_timeout(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(timeout))
}
