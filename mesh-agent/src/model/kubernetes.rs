//! A Kubernetes cluster as the operator wants it meshed.

use std::{num::NonZeroU16, path::PathBuf, sync::Arc, time::Duration};

use super::{OnAgentFailure, Policy};

/// `kubernetes`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    pub enabled: bool,
    /// Where `None`, the rights and the address that a pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// This node's name in the cluster; empty is unknown.
    pub node: String,
    /// The end of the cluster's hostnames.
    pub cluster_domain: String,
    pub services: KubernetesServices,
    /// Of the services that nobody wrote down: `defaults.policy`.
    pub policy: Policy,
    /// The same as it is written: the policies of the cluster are merged over
    /// it key by key.
    pub policy_block: serde_json::Value,
    /// `policy` says how localities rank; else each Service does.
    pub own_locality: bool,
    /// For how long the agent that writes statuses may be silent.
    pub lease: Duration,
    /// Of the services that nobody wrote down.
    pub on_agent_failure: OnAgentFailure,
}

/// `kubernetes.services`: which Services become services of the mesh by
/// themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KubernetesServices {
    /// Those of captured namespaces.
    #[default]
    Captured,
    All,
    /// Only those that `endpoints.kubernetes` names.
    None,
}

/// `endpoints.kubernetes`: the instances behind a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KubernetesSource {
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    /// Of the Service. Where `None`, each port of the mesh's service gets the
    /// instances of the Service's port with its number; the only port there is
    /// serves all.
    pub port: Option<KubernetesPort>,
    /// `NAMESPACE/SERVICE`, with the port where there is one: to show.
    pub shown: Arc<str>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KubernetesPort {
    Name(Arc<str>),
    Number(NonZeroU16),
}

impl KubernetesSource {
    pub fn new(namespace: &str, service: &str, port: Option<KubernetesPort>) -> Self {
        let shown = match &port {
            None => format!("{namespace}/{service}"),
            Some(KubernetesPort::Name(name)) => format!("{namespace}/{service}:{name}"),
            Some(KubernetesPort::Number(number)) => format!("{namespace}/{service}:{number}"),
        };
        Self { namespace: namespace.into(), service: service.into(), port, shown: shown.into() }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: false,
            kubeconfig: None,
            node: String::new(),
            cluster_domain: "cluster.local".to_owned(),
            services: KubernetesServices::default(),
            policy: Policy::default(),
            policy_block: serde_json::Value::Object(serde_json::Map::new()),
            own_locality: false,
            lease: Duration::from_secs(15),
            on_agent_failure: OnAgentFailure::default(),
        }
    }
}

impl KubernetesServices {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::All => "all",
            Self::None => "none",
        }
    }
}
