//! Services.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Key, Meta, Resource, Watched, transport};
use crate::model::Transport;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub key: Key,
    pub kind: ServiceKind,
    /// Those that the mesh can carry.
    pub ports: Vec<ServicePort>,
    /// A client keeps its instance until it has been silent for this long.
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`: instances of this node only.
    pub local: bool,
    pub distribution: Option<Distribution>,
    /// Another program than the node's proxy serves it, by a label.
    pub foreign: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceKind {
    /// Its virtual addresses, of one family or both; none until they are given.
    ClusterIp(Vec<IpAddr>),
    /// Its name resolves to its pods.
    Headless,
    /// Its name is another one's alias.
    ExternalName(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Empty where the Service has one port only.
    pub name: Arc<str>,
    pub port: NonZeroU16,
    #[serde(with = "transport_name")]
    pub transport: Transport,
    /// `appProtocol`
    pub protocol: Option<Arc<str>>,
}

/// `trafficDistribution`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// `PreferSameZone`, and `PreferClose` as it was called before.
    SameZone,
    SameNode,
}

#[derive(Deserialize)]
pub struct Wire {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
    external_name: Option<String>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    internal_traffic_policy: Option<String>,
    traffic_distribution: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    port: NonZeroU16,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

#[derive(Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

/// What Kubernetes takes where `sessionAffinityConfig` says nothing.
const AFFINITY: Duration = Duration::from_secs(10_800);

impl Watched for Service {
    type Wire = Wire;

    const RESOURCE: Resource =
        Resource { group: "", version: "v1", plural: "services", metadata_only: false };

    fn read(Wire { metadata, spec }: Wire) -> Result<Self, String> {
        Ok(Self {
            key: metadata.key(),
            kind: kind(&spec)?,
            affinity: affinity(&spec),
            local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            distribution: match spec.traffic_distribution.as_deref() {
                Some("PreferClose" | "PreferSameZone") => Some(Distribution::SameZone),
                Some("PreferSameNode") => Some(Distribution::SameNode),
                _ => None,
            },
            foreign: !metadata.label("service.kubernetes.io/service-proxy-name").is_empty(),
            ports: spec.ports.into_iter().flatten().filter_map(Port::kept).collect(),
        })
    }

    fn key(&self) -> Key {
        self.key.clone()
    }

    fn key_of(wire: &Wire) -> Key {
        wire.metadata.key()
    }
}

impl Port {
    fn kept(self) -> Option<ServicePort> {
        Some(ServicePort {
            name: self.name.unwrap_or_default().into(),
            port: self.port,
            transport: transport(self.protocol.as_deref())?,
            protocol: self.app_protocol.map(Into::into),
        })
    }
}

fn kind(spec: &Spec) -> Result<ServiceKind, String> {
    if spec.r#type.as_deref() == Some("ExternalName") {
        let name = spec.external_name.clone().unwrap_or_default();
        return Ok(ServiceKind::ExternalName(name.trim_end_matches('.').to_ascii_lowercase()));
    }
    // Older API servers have the singular only.
    let many = spec.cluster_ips.as_deref().filter(|many| !many.is_empty());
    let addresses = many.unwrap_or(spec.cluster_ip.as_slice());
    if addresses.iter().any(|address| address == "None") {
        return Ok(ServiceKind::Headless);
    }
    let addresses = addresses.iter().filter(|address| !address.is_empty());
    let addresses = addresses
        .map(|text| text.parse().map_err(|_| format!("its `clusterIP` {text:?} is no IP address")));
    Ok(ServiceKind::ClusterIp(addresses.collect::<Result<_, String>>()?))
}

fn affinity(spec: &Spec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(seconds.map_or(AFFINITY, |seconds| Duration::from_secs(seconds.into())))
}

/// `http (80)`, as an operator would look for it.
impl std::fmt::Display for ServicePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.name {
            "" => write!(f, "{}", self.port),
            name => write!(f, "{name} ({})", self.port),
        }
    }
}

/// In the state file.
pub(super) mod transport_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use crate::model::Transport;

    pub fn serialize<S: Serializer>(
        transport: &Transport,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(transport.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Transport, D::Error> {
        match std::borrow::Cow::<'_, str>::deserialize(deserializer)?.as_ref() {
            "tcp" => Ok(Transport::Tcp),
            "udp" => Ok(Transport::Udp),
            other => Err(D::Error::custom(format!("{other:?} is no transport"))),
        }
    }
}
