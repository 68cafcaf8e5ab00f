//! A world whose services are those of a Kubernetes cluster.

use std::{
    collections::BTreeSet, fs, net::IpAddr, os::unix::fs::PermissionsExt as _, time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    agent::{Agent, agent_binary},
    pod::Pod,
    server::{
        Kubernetes,
        kubernetes::object::{namespace, node, service, slice},
    },
    wait::{eventually, eventually_for},
    world::World,
};

/// The node that the agent runs on.
pub const NODE: &str = "node-1";
/// A captured namespace.
pub const SHOP: &str = "shop";

/// An API server with one node and one captured namespace.
///
/// Its services have one port, 80; a port's name says by its prefix what is
/// spoken, so that `tcp-web` takes the kernel path.
#[derive(Debug)]
pub struct Cluster {
    pub kubernetes: Kubernetes,
    pub world: World,
}

impl Cluster {
    pub fn new(name: &str) -> Result<Self> {
        let world = World::new(name)?;
        let kubernetes = Kubernetes::start(&world)?;
        kubernetes.apply(&namespace(SHOP, true))?;
        kubernetes.apply(&node(NODE, "region-1", "zone-1"))?;
        Ok(Self { kubernetes, world })
    }

    /// An agent with the rights of its ServiceAccount, and no services in its file.
    pub fn agent(&self) -> Result<Agent> {
        let kubeconfig = self.kubernetes.kubeconfig()?;
        let others = format!(
            "dns: {{enabled: true}}\n\
             defaults: {{policy: {{loadBalancer: {{algorithm: roundRobin}}}}}}\n\
             kubernetes: {{enabled: true, kubeconfig: {}, node: {NODE}}}\n",
            kubeconfig.display(),
        );
        Agent::start_with(&self.world, &others, "  []\n")
    }

    /// [`Cluster::agent`] as in its pod: what reaches the API server is what a
    /// kubelet mounts and sets.
    pub fn agent_in_pod(&self) -> Result<Agent> {
        let (account, address) = (self.kubernetes.service_account()?, self.kubernetes.address());
        let wrapper = self.world.folder().join("mesh-agent-in-pod");
        let script = format!(
            "#!/bin/sh\nset -e\nmounted=/var/run/secrets/kubernetes.io/serviceaccount\n\
             mkdir -p $mounted\n\
             export KUBERNETES_SERVICE_HOST={} KUBERNETES_SERVICE_PORT={} MOUNTED=$mounted\n\
             exec unshare --mount sh -c 'mount --bind \"$0\" $MOUNTED && exec \"$@\"' {} {} \"$@\"\n",
            address.ip(),
            address.port(),
            account.display(),
            agent_binary()?.display(),
        );
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        let others = format!("kubernetes: {{enabled: true, node: {NODE}}}\n");
        Agent::start_binary(&self.world, wrapper, &others, "  []\n")
    }

    /// A service of [`SHOP`] at `10.96.0.NUMBER`, without any endpoint.
    pub fn service(&self, name: &str, number: u8, port: &str) -> Result<()> {
        self.kubernetes.apply(&service(SHOP, name, cluster_ip(number), port)).map(drop)
    }

    /// Endpoints of a service, in its slice `NAME-1`.
    pub fn endpoints<'a>(
        &self,
        name: &str,
        port: &str,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Result<()> {
        self.slice(name, &format!("{name}-1"), port, pods)
    }

    /// One more slice of a service.
    pub fn slice<'a>(
        &self,
        service: &str,
        name: &str,
        port: &str,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Result<()> {
        let addresses: Vec<IpAddr> = pods.into_iter().map(|pod| pod.ip4.into()).collect();
        self.kubernetes.apply(&slice((SHOP, service), name, port, &addresses)).map(drop)
    }
}

/// Where [`Cluster::service`] puts a service.
pub fn cluster_ip(number: u8) -> IpAddr {
    [10, 96, 0, number].into()
}

/// Until exactly these pods answer at `host`, each by its name, and no request
/// fails any more.
pub fn until_answered_by(client: &Pod, host: &str, names: &[&str], agent: &Agent) -> Result<()> {
    let expected: BTreeSet<&str> = names.iter().copied().collect();
    eventually(&format!("{names:?} to answer at {host}"), || {
        let url = format!("http://{host}/?[1-{}]", 4 * names.len());
        let answers = client.curl(["-H", "Connection: close", "--max-time", "5", &url]);
        let answers = answers.with_context(|| agent.ask(["status"]).unwrap_or_default())?;
        let seen: BTreeSet<&str> = answers.lines().collect();
        ensure!(seen == expected, "{seen:?}; {}", agent.ask(["status"])?);
        Ok(())
    })
}

/// What `status` says of the watch of a resource, by its plural.
pub fn watch_of(agent: &Agent, plural: &str) -> Result<Value> {
    let status = agent.json(["status"])?;
    let watches = status["watches"].as_array().context("no watches in the status")?;
    let of = |watch: &&Value| {
        let resource = watch["resource"].as_str().unwrap_or_default();
        resource.split('.').next() == Some(plural)
    };
    match watches.iter().find(of) {
        Some(watch) => Ok(watch.clone()),
        None => bail!("no watch of {plural}: {status}"),
    }
}

/// Longer than the agent waits before it asks a server that failed once more.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(45);

/// Until `status` says that a resource is in this state.
pub fn until_watch_is(agent: &Agent, plural: &str, state: &str) -> Result<Value> {
    eventually_for(LONGEST_BACK_OFF, &format!("{plural} to be {state}"), || {
        let watch = watch_of(agent, plural)?;
        ensure!(watch["state"] == state, "{watch}");
        Ok(watch)
    })
}
