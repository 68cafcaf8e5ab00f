//! What stands between client and server.

use super::{peer::Peer, scenario::Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// Nothing: the physical limit.
    Direct,
    /// DNAT in the pod's namespace, with the rules of kube-proxy.
    Iptables,
    /// Our kernel path to servers that are not captured, as on another node.
    Kernel,
    /// Our kernel path between two captured pods of one node.
    Node,
    /// The same, with payload that goes past TCP.
    Bypass,
    /// Our agent.
    Proxy,
    /// The same, to a captured server, with payload that goes past TCP on both sides.
    ProxyBypass,
    /// Peers that the client calls by their own address.
    Haproxy,
    Nginx,
    Envoy,
    /// Envoy in the client's pod, which iptables lead there.
    Sidecar,
    /// The same, and another one in the server's pod.
    Pair,
}

impl Contender {
    pub const ALL: [Self; 12] = [
        Self::Direct,
        Self::Iptables,
        Self::Kernel,
        Self::Node,
        Self::Bypass,
        Self::Proxy,
        Self::ProxyBypass,
        Self::Haproxy,
        Self::Nginx,
        Self::Envoy,
        Self::Sidecar,
        Self::Pair,
    ];

    /// As in JSON, and as the name of its client's pod.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Iptables => "iptables",
            Self::Kernel => "kernel",
            Self::Node => "node",
            Self::Bypass => "bypass",
            Self::Proxy => "proxy",
            Self::ProxyBypass => "proxy-bypass",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Sidecar => "sidecar",
            Self::Pair => "pair",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no mesh",
            Self::Iptables => "kube-proxy's iptables",
            Self::Kernel => "our kernel path",
            Self::Node => "our kernel path, one node",
            Self::Bypass => "our kernel path, one node, past TCP",
            Self::Proxy => "our proxy path",
            Self::ProxyBypass => "our proxy path, one node, past TCP",
            Self::Haproxy => "haproxy, explicit",
            Self::Nginx => "nginx, explicit",
            Self::Envoy => "Envoy, explicit",
            Self::Sidecar => "Envoy, one sidecar",
            Self::Pair => "Envoy, pair of sidecars",
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::Kernel | Self::Node | Self::Bypass | Self::Proxy | Self::ProxyBypass)
    }

    /// What it needs besides this repository.
    pub fn peer(self) -> Option<Peer> {
        match self {
            Self::Haproxy => Some(Peer::Haproxy),
            Self::Nginx => Some(Peer::Nginx),
            Self::Envoy | Self::Sidecar | Self::Pair => Some(Peer::Envoy),
            _ => None,
        }
    }

    pub fn needs_iptables(self) -> bool {
        matches!(self, Self::Iptables | Self::Sidecar | Self::Pair)
    }

    /// Whether it can carry this kind of traffic at all.
    pub fn carries(self, kind: Kind) -> bool {
        match kind {
            Kind::Datagram => {
                matches!(self, Self::Direct | Self::Iptables | Self::Kernel | Self::Node)
            }
            Kind::Tcp | Kind::Bulk | Kind::Ping if self == Self::Nginx => {
                super::peer::nginx::stream_module().is_some()
            }
            _ => true,
        }
    }
}
