//! What is measured: a kind of traffic, and how much of it.

use anyhow::Result;

use super::{
    load::{
        Outcome, Target,
        h2load::{H2load, Kind as H2Kind},
        iperf, sockperf,
        wrk::Wrk,
    },
    machine::Cores,
};

/// What a service port speaks, and which server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// nginx, and the proxies know that it is HTTP/1.1.
    Http,
    /// nginx by HTTP/2 with prior knowledge, on both sides of a proxy that can.
    Http2,
    /// The same nginx as [`Kind::Http`], but nobody is told that it is HTTP.
    Tcp,
    /// iperf3, whose two connections have to meet at one server.
    Bulk,
    /// sockperf by TCP.
    Ping,
    /// sockperf by UDP.
    Datagram,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Http, Self::Http2, Self::Tcp, Self::Bulk, Self::Ping, Self::Datagram];

    /// Sets ports and virtual addresses apart.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn server_port(self) -> u16 {
        match self {
            Self::Http | Self::Tcp => 80,
            Self::Http2 => 81,
            Self::Bulk => 5201,
            Self::Ping | Self::Datagram => 11_111,
        }
    }

    /// As the configuration of the agent says it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Tcp | Self::Bulk | Self::Ping => "tcp",
            Self::Datagram => "udp",
        }
    }

    /// How many of the instances there are.
    pub fn servers(self) -> usize {
        match self {
            Self::Http | Self::Http2 | Self::Tcp => super::backend::INSTANCES.into(),
            Self::Bulk | Self::Ping | Self::Datagram => 1,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Wrk(Wrk),
    H2(H2load),
    Iperf,
    Sockperf,
    /// HTTP/1.1 at half of what the slowest peer can do.
    Paced,
    /// So many services of ten instances each.
    Scale(u32),
    /// A hundred captured pods that do nothing.
    Idle,
}

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub kind: Kind,
    pub load: Load,
}

const fn wrk(connections: u32, close: bool, path: &'static str) -> Load {
    Load::Wrk(Wrk { connections, close, path })
}

const fn h2(clients: u32, streams: u32, kind: H2Kind) -> Load {
    Load::H2(H2load { clients, streams, kind, pace: None })
}

const fn scenario(name: &'static str, kind: Kind, load: Load, about: &'static str) -> Scenario {
    Scenario { name, about, kind, load }
}

pub const ALL: [Scenario; 17] = [
    scenario("http-1", Kind::Http, wrk(1, false, "/"), "HTTP/1.1, 1 KiB, 1 kept connection"),
    scenario("http-32", Kind::Http, wrk(32, false, "/"), "HTTP/1.1, 1 KiB, 32 kept connections"),
    scenario("http-256", Kind::Http, wrk(256, false, "/"), "HTTP/1.1, 1 KiB, 256 kept connections"),
    scenario("http-new", Kind::Http, wrk(32, true, "/"), "HTTP/1.1, a new connection per request"),
    scenario("http-large", Kind::Http, wrk(8, false, "/large"), "HTTP/1.1, 1 MiB, 8 connections"),
    scenario("http-paced", Kind::Http, Load::Paced, "HTTP/1.1 at half the slowest peer's capacity"),
    scenario("h2-1", Kind::Http2, h2(32, 1, H2Kind::Http2), "HTTP/2, 32 connections, 1 stream"),
    scenario(
        "h2-100",
        Kind::Http2,
        h2(16, 100, H2Kind::Http2),
        "HTTP/2, 16 connections, 100 streams",
    ),
    scenario("grpc", Kind::Http2, h2(32, 10, H2Kind::Grpc), "gRPC unary, 32 connections, 10 calls"),
    scenario("tcp-32", Kind::Tcp, wrk(32, false, "/"), "TCP request/response, 32 connections"),
    scenario("tcp-new", Kind::Tcp, wrk(32, true, "/"), "TCP connections per second"),
    scenario("tcp-ping", Kind::Ping, Load::Sockperf, "TCP, 64 bytes there and back, 1 connection"),
    scenario("tcp-bulk", Kind::Bulk, Load::Iperf, "TCP, one stream as fast as it goes"),
    scenario("udp-ping", Kind::Datagram, Load::Sockperf, "UDP, 64 bytes there and back, 1 socket"),
    scenario("scale-1k", Kind::Http, Load::Scale(1_000), "1,000 services × 10: memory, changes"),
    scenario("scale-10k", Kind::Http, Load::Scale(10_000), "10,000 services × 10: memory, changes"),
    scenario("idle", Kind::Http, Load::Idle, "100 captured pods without traffic"),
];

pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// A contender stands between client and servers; else it is about the
    /// agent alone.
    pub fn compares(&self) -> bool {
        !matches!(self.load, Load::Scale(_) | Load::Idle)
    }

    /// The work that processor time is given for, and what it is called.
    pub fn portion(&self) -> (f64, &'static str) {
        match self.load {
            Load::Iperf => (1e9, "GB"),
            _ => (1e5, "100,000 requests"),
        }
    }

    /// `pace` is for [`Load::Paced`] alone.
    pub fn run(&self, target: &Target, cores: &Cores, seconds: u32, pace: u32) -> Result<Outcome> {
        match self.load {
            Load::Wrk(wrk) => wrk.run(target, cores, seconds),
            Load::H2(h2load) => h2load.run(target, cores, seconds),
            Load::Iperf => iperf::run(target, cores, seconds),
            Load::Sockperf => sockperf::run(target, cores, seconds, self.kind == Kind::Ping),
            Load::Paced => {
                let kind = H2Kind::Http1;
                let paced = H2load { clients: 32, streams: 1, kind, pace: Some(pace) };
                paced.run(target, cores, seconds)
            }
            Load::Scale(_) | Load::Idle => anyhow::bail!("{} has no load", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|scenario| named(scenario.name).is_some()));
        assert!(named("http").is_none());
    }
}
