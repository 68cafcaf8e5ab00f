//! Echo servers whose answers say who they are and who asked.

use anyhow::Result;

use super::wait_for_port;
use crate::{pod::Pod, process::Process};

/// Answers each line, and each datagram, on port 7 with
/// `NAME CLIENT-ADDRESS TEXT`; keeps TCP connections open.
#[derive(Debug)]
pub struct Echo {
    pub process: Process,
}

const PROGRAM: &str = r#"
import socket, sys, threading

name = sys.argv[1]

def answer(peer, data):
    address = peer[0].removeprefix("::ffff:")
    return b"%s %s " % (name.encode(), address.encode()) + data

def serve(connection, peer):
    with connection, connection.makefile("rwb") as stream:
        for line in stream:
            stream.write(answer(peer, line))
            stream.flush()

def datagrams(server):
    while True:
        data, peer = server.recvfrom(65536)
        server.sendto(answer(peer, data), peer)

# A socket for each family: one that serves both would show v4-mapped peers.
for family, any in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    udp = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    udp.bind((any, 7))
    threading.Thread(target=datagrams, args=(udp,), daemon=True).start()

tcp = socket.create_server(("", 7), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
while True:
    threading.Thread(target=serve, args=tcp.accept(), daemon=True).start()
"#;

impl Echo {
    pub fn start(pod: &Pod) -> Result<Self> {
        let process = pod.spawn("python3", ["-c", PROGRAM, &pod.name])?;
        wait_for_port(pod, 7)?;
        Ok(Self { process })
    }
}
