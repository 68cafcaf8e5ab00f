//! `kubernetes`, and `endpoints.kubernetes`.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Policy, same::same, section::section};
use crate::{
    config::text::{AbsolutePath, Duration, Hostname, KubernetesName, NodeName},
    model::{self, KubernetesSource as Source},
};

/// The cluster that this node belongs to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether the cluster is watched; `false` asks nothing of it.
    pub enabled: bool,
    /// How to reach the API server; unless set, as a pod does: by its ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<AbsolutePath>,
    /// This node's name in the cluster; the environment's `NODE_NAME` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The end of the cluster's hostnames: `reviews.default.svc.cluster.local`.
    pub cluster_domain: Hostname,
    /// Which Services become services of the mesh by themselves, named `NAME.NAMESPACE`.
    pub services: KubernetesServices,
    /// One agent of the cluster writes the statuses of policies and routes: after this time without a word from it, another one does. 3s to 1h.
    pub lease_duration: Duration,
}

/// Which Services become services of the mesh by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KubernetesServices {
    /// Those of namespaces with the label `mesh.dev/capture: "true"`.
    Captured,
    /// Those of all namespaces.
    All,
    /// None but those that `endpoints.kubernetes` of a service names.
    None,
}

section! {
    /// Instances that are behind a Service of Kubernetes (see `kubernetes`).
    #[schemars(extend("required" = ["namespace", "service"]))]
    pub struct KubernetesSource {
        /// Of the Service.
        namespace: KubernetesName,
        /// The Service's name.
        service: KubernetesName,
        /// Name or number of a port of the Service, whose instances serve all ports of this one. Unless set, ports with the same number belong together.
        port: KubernetesPort,
    }
}

/// A port of a Service: its number, or its name.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum KubernetesPort {
    Number(NonZeroU16),
    Name(KubernetesName),
}

super::section::values! { KubernetesName KubernetesPort }
same! { KubernetesServices = KubernetesServices { Captured All None } }

impl KubernetesSource {
    /// `None` where a key that must be there isn't, which has been reported.
    pub fn model(&self) -> Option<Source> {
        let port = self.port.as_ref().map(|port| match port {
            KubernetesPort::Number(number) => model::KubernetesPort::Number(*number),
            KubernetesPort::Name(name) => model::KubernetesPort::Name(name.0.as_str().into()),
        });
        Some(Source::new(&self.namespace.as_ref()?.0, &self.service.as_ref()?.0, port))
    }
}

impl Kubernetes {
    /// `policy` is that of `defaults`, which are written so.
    pub fn model(
        self,
        policy: model::Policy,
        defaults: &Policy,
        on_agent_failure: model::OnAgentFailure,
    ) -> model::Kubernetes {
        let environment = || std::env::var("NODE_NAME").ok();
        model::Kubernetes {
            enabled: self.enabled,
            kubeconfig: self.kubeconfig.map(|path| path.0),
            node: self.node.map(|node| node.0).or_else(environment).unwrap_or_default(),
            cluster_domain: self.cluster_domain.0,
            services: self.services.into(),
            policy,
            policy_block: serde_json::to_value(defaults)
                .expect("a policy is text, numbers and mappings by text"),
            lease: self.lease_duration.0,
            own_locality: defaults.locality.is_some(),
            on_agent_failure,
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        let fallback = model::Kubernetes::default();
        Self {
            enabled: fallback.enabled,
            kubeconfig: None,
            node: None,
            cluster_domain: Hostname(fallback.cluster_domain),
            services: fallback.services.into(),
            lease_duration: Duration(fallback.lease),
        }
    }
}
