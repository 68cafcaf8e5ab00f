//! Whether this kernel can take payload past TCP without breaking those who
//! read it: [`mesh_common::bypass`].

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use aya::maps::{HashMap, MapData, SockHash};
use mesh_common::{
    bypass::{Counts, Pair, PairKey, end, state},
    connection::Connection,
    map::{self, capacity},
    policy::{Policy, flag},
    socket::route,
};

use super::{btf::Btf, object::Object, tables::Fill};
use crate::net;

/// How long something may take from one end of a connection inside this
/// process to the other, on a busy machine.
const ON_LOOPBACK: Duration = Duration::from_secs(2);

/// The sockets that are past TCP, and what was found out about the kernel, once
/// somebody wanted to know.
pub(super) struct Bypass {
    sockets: SockHash<MapData, u64>,
    pairs: HashMap<MapData, PairKey, Pair>,
    no_programs: Option<anyhow::Error>,
    /// Some policy wants it.
    asked: bool,
    found: Option<Counts>,
}

impl Bypass {
    pub(super) fn open(object: &mut Object) -> anyhow::Result<Self> {
        let mut take = |name| {
            object.ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
        };
        let sockets = take(map::ENDPOINTS)?.try_into().context(map::ENDPOINTS)?;
        let mut pairs = take(map::PAIRS)?.try_into().context(map::PAIRS)?;
        end_those_of_an_agent_before(&mut pairs);
        Ok(Self { sockets, pairs, no_programs: object.no_bypass.take(), asked: false, found: None })
    }

    /// What has gone past TCP, from the client and to it, so far; `None` for a
    /// connection that stays on TCP.
    pub(super) fn bytes(&self, cookie: u64, connection: &Connection) -> Option<[u64; 2]> {
        let pair = self.pair(cookie, connection)?;
        (pair.state == state::JOINED).then_some(pair.bytes)
    }

    /// The connection ended, and no hook saw it.
    pub(super) fn forget(&mut self, cookie: u64, connection: &Connection) {
        if self.pair(cookie, connection).is_some() {
            self.end(&key(connection));
        }
    }

    /// Of captured pods to the agent: what each shares with it, and the cookie of
    /// its own socket.
    pub(super) fn proxied(&self) -> Vec<(PairKey, u64)> {
        (self.pairs.iter().flatten())
            .filter(|(_, pair)| pair.route == u32::from(route::PROXY))
            .map(|(key, pair)| (key, pair.cookies[end::CLIENT]))
            .collect()
    }

    /// Goes on by TCP, if it goes on.
    pub(super) fn end(&mut self, key: &PairKey) {
        // One that is gone already is as good.
        let _ = self.pairs.remove(key);
    }

    /// Of this connection, and not of the next one between the same addresses.
    fn pair(&self, cookie: u64, connection: &Connection) -> Option<Pair> {
        let pair = self.pairs.get(&key(connection), 0).ok()?;
        (pair.cookies[end::CLIENT] == cookie).then_some(pair)
    }

    /// An earlier agent has looked, unless these are zeros.
    pub(super) fn found(&mut self, counts: Counts) {
        self.found = Some(counts).filter(|&counts| counts != Counts::default());
    }

    /// Where sockets count their bytes; zeros where nothing is to go past TCP.
    pub(super) fn counts(&self) -> Counts {
        self.found.unwrap_or_default()
    }

    /// A policy is in force.
    pub(super) fn note(&mut self, policy: &Policy) {
        self.asked |= policy.flags & flag::BYPASS != 0;
    }

    pub(super) fn fill(&self) -> Fill {
        Fill { map: map::PAIRS, used: self.pairs.keys().count(), capacity: capacity::PAIRS }
    }

    /// Finds it out, where somebody wants to know and that wasn't done. Whether
    /// there is something new.
    pub(super) fn look(&mut self) -> bool {
        if !self.asked || self.found.is_some() {
            return false;
        }
        self.found = Some(self.ask_the_kernel().unwrap_or_else(|error| {
            tracing::warn!(
                error = format!("{error:#}"),
                "`bypass` is asked for, but all goes by TCP: this kernel can't"
            );
            Counts::default()
        }));
        true
    }

    fn ask_the_kernel(&mut self) -> anyhow::Result<Counts> {
        if let Some(error) = self.no_programs.take() {
            return Err(error.context("it refuses the programs"));
        }
        ensure!(
            self.counts_what_waits().context("trying it out")?,
            "it doesn't count what waits for a socket of a map (FIONREAD), which hangs who reads by that, nginx for one; newer ones do"
        );
        let btf = Btf::of_this_kernel()?;
        Ok(Counts {
            unread: btf.offset("sock", &["sk_backlog", "rmem_alloc"])?,
            sent: btf.offset("tcp_sock", &["bytes_sent"])?,
            written: btf.offset("tcp_sock", &["write_seq"])?,
            next: btf.offset("tcp_sock", &["snd_nxt"])?,
        })
    }

    /// Whether `FIONREAD` tells of bytes that a socket of the map got by TCP.
    fn counts_what_waits(&mut self) -> anyhow::Result<bool> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let mut client = TcpStream::connect_timeout(&listener.local_addr()?, ON_LOOPBACK)?;
        let (accepted, _) = listener.accept()?;
        // No socket has this cookie.
        self.sockets.insert(0, accepted.as_raw_fd(), 0)?;
        client.write_all(b"mesh")?;
        let begun = Instant::now();
        loop {
            let waiting = net::bytes_waiting(&accepted)?;
            if waiting > 0 || begun.elapsed() > ON_LOOPBACK {
                // It left the map as it was closed.
                return Ok(waiting == 4);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An agent that is killed sees nothing of its connections' ends, and an agent
/// that is being replaced may go on by TCP: what went past it stands in the
/// receiver's queue by then.
fn end_those_of_an_agent_before(pairs: &mut HashMap<MapData, PairKey, Pair>) {
    let theirs: Vec<_> = (pairs.iter().flatten())
        .filter(|(_, pair)| pair.route == u32::from(route::UPSTREAM))
        .map(|(key, _)| key)
        .collect();
    for key in theirs {
        // One that has ended meanwhile is as good.
        let _ = pairs.remove(&key);
    }
}

/// Of what both ends of a connection of the kernel path share.
fn key(connection: &Connection) -> PairKey {
    PairKey { client: connection.client, instance: connection.backend_address, netns: 0 }
}
