//! Slices of the endpoints behind a Service.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Key, Resource, Watched, service::transport_name, transport};
use crate::model::Transport;

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    pub key: Key,
    /// In the slice's namespace. Empty where it belongs to none.
    pub service: Arc<str>,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

/// A port of all endpoints of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    /// The Service's port with the same name is served by it.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    pub port: NonZeroU16,
    #[serde(with = "transport_name")]
    pub transport: Transport,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: IpAddr,
    pub conditions: Conditions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Zones that should use it. Nodes are hinted at for `PreferSameNode` only,
    /// which prefers its node's endpoints by itself.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub for_zones: Box<[Arc<str>]>,
}

/// As far as anything depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conditions {
    Ready,
    /// Takes requests, but is about to end: for where nothing is ready.
    Ending,
    Unready,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wire {
    metadata: SliceMeta,
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<WireEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<WirePort>>,
}

/// Slices are many, and nothing else is needed of their labels.
#[derive(Deserialize)]
struct SliceMeta {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Option<SliceLabels>,
}

#[derive(Default, Deserialize)]
struct SliceLabels {
    #[serde(default, rename = "kubernetes.io/service-name")]
    service: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEndpoint {
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Option<WireConditions>,
    #[serde(default)]
    node_name: Option<Arc<str>>,
    #[serde(default)]
    zone: Option<Arc<str>>,
    #[serde(default)]
    hints: Option<Hints>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hints {
    for_zones: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    name: Arc<str>,
}

#[derive(Deserialize)]
struct WirePort {
    #[serde(default)]
    name: Option<Arc<str>>,
    #[serde(default)]
    port: Option<u32>,
    #[serde(default)]
    protocol: Option<String>,
}

impl Watched for Slice {
    type Wire = Wire;

    const RESOURCE: Resource = Resource {
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        metadata_only: false,
    };

    /// One endpoint that makes no sense refuses the whole slice: who wrote it
    /// may have meant others otherwise, too.
    fn read(wire: Wire) -> Result<Self, String> {
        let parse: fn(&str) -> Option<IpAddr> = match wire.address_type.as_str() {
            "IPv4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "IPv6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            // Deprecated, and nothing that kube-proxy would use either.
            "FQDN" => |_| None,
            other => return Err(format!("its `addressType` {other:?} is unknown")),
        };
        let key = Self::key_of(&wire);
        let fqdn = wire.address_type == "FQDN";
        let endpoints = wire.endpoints.into_iter().flatten().filter(|_| !fqdn);
        let ports = wire.ports.into_iter().flatten();
        Ok(Self {
            key,
            service: wire.metadata.labels.unwrap_or_default().service.into(),
            endpoints: endpoints
                .map(|endpoint| endpoint.kept(&wire.address_type, parse))
                .collect::<Result<_, String>>()?,
            ports: ports.filter_map(|port| port.kept().transpose()).collect::<Result<_, _>>()?,
        })
    }

    fn key(&self) -> Key {
        self.key.clone()
    }

    fn key_of(wire: &Wire) -> Key {
        Key::new(&wire.metadata.namespace, &wire.metadata.name)
    }
}

impl WireEndpoint {
    fn kept(self, kind: &str, parse: fn(&str) -> Option<IpAddr>) -> Result<Endpoint, String> {
        // All of them mean the same endpoint; kube-proxy uses the first, too.
        let Some(text) = self.addresses.first() else {
            return Err("an endpoint has no address".to_owned());
        };
        let address = parse(text).filter(|address| is_usable(*address));
        let address =
            address.ok_or_else(|| format!("{text:?} is no {kind} address of an endpoint"))?;
        let hints = self.hints.unwrap_or_default();
        let names =
            |named: Option<Vec<Named>>| named.into_iter().flatten().map(|n| n.name).collect();
        Ok(Endpoint {
            address,
            conditions: self.conditions.unwrap_or_default().kept(),
            node: self.node_name,
            zone: self.zone,
            for_zones: names(hints.for_zones),
        })
    }
}

impl WireConditions {
    /// An unknown condition counts as ready, and as not ending (the API's
    /// own words); serving is as ready where it isn't said.
    fn kept(&self) -> Conditions {
        let ready = self.ready.unwrap_or(true);
        let serving = self.serving.unwrap_or(ready);
        match (ready, serving && self.terminating.unwrap_or(false)) {
            (true, _) => Conditions::Ready,
            (false, true) => Conditions::Ending,
            (false, false) => Conditions::Unready,
        }
    }
}

impl WirePort {
    /// `None` for what the mesh doesn't carry, and for "all ports".
    fn kept(self) -> Result<Option<SlicePort>, String> {
        let Some((port, transport)) = self.port.zip(transport(self.protocol.as_deref())) else {
            return Ok(None);
        };
        let number = u16::try_from(port).ok().and_then(NonZeroU16::new);
        let port = number.ok_or_else(|| format!("its port {port} is none"))?;
        Ok(Some(SlicePort { name: self.name.unwrap_or_default(), port, transport }))
    }
}

/// Whether a connection can be made to this address at all.
fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}
