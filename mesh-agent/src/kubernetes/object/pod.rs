//! Pods of this node.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Key, Meta, Resource, Watched};

/// On a pod that the kubelet read from its disk (a static pod): the UID that it
/// knows the pod by. The API server's object only mirrors it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod that runs here, or is about to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub service_account: Arc<str>,
    pub labels: BTreeMap<String, String>,
    /// Of `mesh.dev/` only, and that of static pods: others may be as large as they like.
    pub annotations: BTreeMap<String, String>,
    pub host_network: bool,
    /// Empty until it has any.
    pub addresses: Vec<IpAddr>,
    /// Its containers have ended for good.
    pub finished: bool,
}

impl Pod {
    /// The UID that its cgroup is named after.
    pub fn cgroup_uid(&self) -> &str {
        self.annotations.get(MIRROR).map_or(&self.uid, String::as_str)
    }

    /// The same of each replica.
    pub fn workload(&self) -> Workload {
        Workload {
            namespace: Arc::clone(&self.namespace),
            service_account: Arc::clone(&self.service_account),
        }
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who a pod is among many: its service account. There are few of those.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
}

#[derive(Deserialize)]
pub struct Wire {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: IpAddr,
}

impl Watched for Pod {
    type Wire = Wire;

    const RESOURCE: Resource =
        Resource { group: "", version: "v1", plural: "pods", metadata_only: false };

    fn read(Wire { metadata, spec, status }: Wire) -> Result<Self, String> {
        if metadata.uid.is_empty() {
            return Err("it has no `metadata.uid`".to_owned());
        }
        let ours = |(name, _): &(String, String)| name.starts_with("mesh.dev/") || name == MIRROR;
        Ok(Self {
            uid: metadata.uid.as_str().into(),
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            name: metadata.name.as_str().into(),
            service_account: spec.service_account_name.unwrap_or_default().into(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.into_iter().flatten().filter(ours).collect(),
            host_network: spec.host_network.unwrap_or_default(),
            addresses: status.pod_ips.into_iter().flatten().map(|pod| pod.ip).collect(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        })
    }

    fn key(&self) -> Key {
        Key { namespace: Arc::clone(&self.namespace), name: Arc::clone(&self.name) }
    }

    fn key_of(wire: &Wire) -> Key {
        wire.metadata.key()
    }
}
