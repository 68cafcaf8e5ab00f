//! How the API server is reached.

use std::{path::PathBuf, time::Duration};

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::model::Kubernetes;

/// To answer a request; a watch has a deadline of its own.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// A way to the API server; nothing has been asked yet.
#[derive(Clone)]
pub(super) struct Way {
    pub client: kube::Client,
    /// The API server's, to tell clusters apart.
    pub url: String,
}

/// Why there is no way to an API server at all: the configuration's fault, not
/// the network's.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "kubernetes.enabled is true, but this is no pod of a cluster ({0}): run the agent as one, \
         with a ServiceAccount, or set `kubernetes.kubeconfig`"
    )]
    NotInCluster(#[source] kube::config::InClusterError),
    #[error("kubernetes.kubeconfig: {}: {source}", path.display())]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error("can't make a client of what the cluster's configuration says: {0}")]
    Client(#[source] Box<kube::Error>),
}

pub(super) async fn way(settings: &Kubernetes) -> Result<Way, ConnectError> {
    let mut config = match &settings.kubeconfig {
        // The token's file is read again and again: it expires within the hour.
        None => Config::incluster().map_err(ConnectError::NotInCluster)?,
        Some(path) => {
            let wrong = |source| ConnectError::Kubeconfig { path: path.clone(), source };
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?
        }
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    // We wait by ourselves: what waits in the client would say nothing of why.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    let client = kube::Client::try_from(config).map_err(|e| ConnectError::Client(Box::new(e)))?;
    Ok(Way { client, url })
}
