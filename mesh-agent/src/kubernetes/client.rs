//! How the API server is reached.

use std::{path::PathBuf, time::Duration};

use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::{Body, ConfigExt as _},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::ServiceBuilder;

use crate::model::Kubernetes;

/// To answer a request; a watch has a deadline of its own.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

const CONNECT: Duration = Duration::from_secs(5);
/// A watch may have nothing to say for a minute, and the API server's machine
/// may be gone without a word: the kernel asks it after this much silence…
const QUIET: Duration = Duration::from_secs(15);
/// …and again after each of these, so that it is known dead after 30 s.
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// For what is sent and never acknowledged, which no probe is sent beside.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

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
    let config = match &settings.kubeconfig {
        // The token's file is read again and again: it expires within the hour.
        None => Config::incluster().map_err(ConnectError::NotInCluster)?,
        Some(path) => {
            let wrong = |source| ConnectError::Kubeconfig { path: path.clone(), source };
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?
        }
    };
    let client = client(&config).map_err(|error| ConnectError::Client(Box::new(error)))?;
    Ok(Way { client, url: config.cluster_url.to_string() })
}

/// As kube-rs makes its own, but for connections that notice when the other end
/// is gone; and with no retries, since what waits in the client would say
/// nothing of why.
fn client(config: &Config) -> kube::Result<kube::Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(QUIET));
    connector.set_keepalive_interval(Some(PROBE));
    connector.set_keepalive_retries(Some(PROBES));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let sender: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(sender);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}
