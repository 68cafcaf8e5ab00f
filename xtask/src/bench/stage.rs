//! One world with everything in it: servers, a client for each contender, and
//! what stands between them. All of it runs all the time; only one works.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use mesh_tests::{Agent, Pod, Process, Service, World, eventually};

use super::{
    backend::Backend,
    contender::Contender,
    interception::{self, Addresses},
    load::Target,
    machine::Cores,
    peer::{self, Upstream, envoy::Role},
    scenario::Kind,
};

/// Virtual addresses that only rules of iptables know.
const RULES: Addresses = Addresses { base: 80 };

/// Fields are dropped in this order; the world last.
#[derive(Debug)]
pub struct Stage {
    agent: Option<Agent>,
    _peers: Vec<Process>,
    servers: BTreeMap<Place, Backend>,
    clients: BTreeMap<Contender, Pod>,
    world: World,
}

/// Where servers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Nobody captures them.
    Plain,
    /// Captured by our agent, as clients on the same node are.
    Captured,
    /// With an Envoy in front.
    Sidecars,
}

impl Place {
    fn of(contender: Contender) -> Self {
        match contender {
            Contender::Node | Contender::Bypass | Contender::ProxyBypass => Self::Captured,
            Contender::Pair => Self::Sidecars,
            _ => Self::Plain,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "server",
            Self::Captured => "captured-server",
            Self::Sidecars => "server-of-pair",
        }
    }
}

/// The virtual addresses by which the agent knows a contender's services.
fn addresses(contender: Contender) -> Option<(Addresses, &'static str)> {
    match contender {
        Contender::Kernel => Some((Addresses { base: 10 }, "kernel")),
        Contender::Node => Some((Addresses { base: 20 }, "kernel")),
        Contender::Bypass => Some((Addresses { base: 40 }, "kernel")),
        Contender::ProxyBypass => Some((Addresses { base: 50 }, "proxy")),
        Contender::Proxy => Some((Addresses { base: 30 }, "proxy")),
        _ => None,
    }
}

impl Stage {
    pub fn set_up(contenders: &[Contender], agent: &Path, cores: &Cores) -> Result<Self> {
        let world = World::beside_the_tests("bench")?;
        let mut stage = Self {
            agent: None,
            _peers: Vec::new(),
            servers: BTreeMap::new(),
            clients: BTreeMap::new(),
            world,
        };
        for contender in contenders {
            stage.add_server(Place::of(*contender), cores)?;
            let name = contender.name();
            let client = match contender.is_ours() {
                true => stage.world.client(name)?,
                false => stage.world.backend(name)?,
            };
            tune(&client)?;
            stage.clients.insert(*contender, client);
        }
        stage.start_agent(agent)?;
        for contender in contenders {
            stage
                .start_peer(*contender, cores)
                .with_context(|| format!("set up {}", contender.title()))?;
        }
        for contender in contenders {
            stage.try_out(*contender)?;
        }
        Ok(stage)
    }

    fn add_server(&mut self, place: Place, cores: &Cores) -> Result<()> {
        if self.servers.contains_key(&place) {
            return Ok(());
        }
        let pod = match place {
            Place::Captured => self.world.client(place.name())?,
            _ => self.world.backend(place.name())?,
        };
        tune(&pod)?;
        self.servers.insert(place, Backend::start(pod, cores)?);
        Ok(())
    }

    fn server(&self, contender: Contender) -> Result<&Backend> {
        let place = Place::of(contender);
        self.servers.get(&place).with_context(|| format!("no server is {}", place.name()))
    }

    /// One agent for all of our contenders, as on a node.
    fn start_agent(&mut self, binary: &Path) -> Result<()> {
        let mut services = String::new();
        for contender in self.clients.keys() {
            if let Some((addresses, path)) = addresses(*contender) {
                let servers = &self.server(*contender)?.addresses;
                services.extend(
                    Kind::ALL.map(|kind| service(*contender, addresses, path, kind, servers)),
                );
            }
        }
        if services.is_empty() {
            return Ok(());
        }
        let agent = Agent::start_binary(&self.world, binary.to_owned(), "", &services)?;
        for (contender, client) in &self.clients {
            if contender.is_ours() {
                agent.wait_for(client)?;
            }
        }
        self.agent = Some(agent);
        Ok(())
    }

    fn start_peer(&mut self, contender: Contender, cores: &Cores) -> Result<()> {
        let client = self.client(contender)?.clone();
        let server = self.server(contender)?;
        let (pod, upstream) =
            (server.pod.clone(), Upstream { addresses: server.addresses.clone() });
        let envoy = || peer::install::envoy().context("Envoy isn't installed");
        match contender {
            Contender::Direct
            | Contender::Kernel
            | Contender::Node
            | Contender::Bypass
            | Contender::Proxy
            | Contender::ProxyBypass => {}
            Contender::Iptables => interception::kube_proxy(&client, RULES, &upstream.addresses)?,
            Contender::Haproxy => {
                self._peers.push(peer::haproxy::explicit(&client, &upstream, cores)?);
            }
            Contender::Nginx => self._peers.push(peer::nginx::explicit(&client, &upstream, cores)?),
            Contender::Envoy => {
                let role = Role::Explicit;
                self._peers.push(peer::envoy::run(&envoy()?, &client, role, &upstream, cores)?);
            }
            Contender::Sidecar | Contender::Pair => {
                let role = Role::Client(RULES);
                self._peers.push(peer::envoy::run(&envoy()?, &client, role, &upstream, cores)?);
                interception::outbound(&client)?;
                if contender == Contender::Pair {
                    let role = Role::Server;
                    let sidecar = peer::envoy::run(&envoy()?, &pod, role, &upstream, cores)?;
                    self._peers.push(sidecar);
                    interception::inbound(&pod)?;
                }
            }
        }
        Ok(())
    }

    fn client(&self, contender: Contender) -> Result<&Pod> {
        self.clients.get(&contender).with_context(|| format!("no client for {contender:?}"))
    }

    /// Where the client of a contender sends this kind of traffic.
    pub fn target(&self, contender: Contender, kind: Kind) -> Result<Target> {
        let client = self.client(contender)?.clone();
        let (address, port) = match contender {
            Contender::Direct => (self.server(contender)?.pod.ip4.to_string(), kind.server_port()),
            Contender::Iptables | Contender::Sidecar | Contender::Pair => {
                (RULES.of(kind).to_string(), Addresses::PORT)
            }
            Contender::Haproxy | Contender::Nginx | Contender::Envoy => {
                ("127.0.0.1".to_owned(), peer::explicit_port(kind))
            }
            Contender::Kernel
            | Contender::Node
            | Contender::Bypass
            | Contender::Proxy
            | Contender::ProxyBypass => {
                let (addresses, _) = addresses(contender).context("ours has addresses")?;
                (addresses.of(kind).to_string(), Addresses::PORT)
            }
        };
        Ok(Target { client, address, port })
    }

    /// Cgroups of the proxy alone.
    pub fn proxies(&self, contender: Contender) -> Result<Vec<PathBuf>> {
        if contender.is_ours() {
            return Ok(vec![self.world.agent_cgroup()]);
        }
        if contender.peer().is_none() {
            return Ok(Vec::new());
        }
        let mut groups = vec![self.client(contender)?.cgroup.join(peer::GROUP)];
        if contender == Contender::Pair {
            groups.push(self.server(contender)?.pod.cgroup.join(peer::GROUP));
        }
        Ok(groups)
    }

    /// Cgroups of all that work for a contender: client, servers, proxies.
    pub fn whole_path(&self, contender: Contender) -> Result<Vec<PathBuf>> {
        // Those of peers are below those of their pods.
        let mut groups = vec![self.client(contender)?.cgroup.clone()];
        groups.push(self.server(contender)?.pod.cgroup.clone());
        if contender.is_ours() {
            groups.push(self.world.agent_cgroup());
        }
        Ok(groups)
    }

    /// Waits until a request gets through.
    fn try_out(&self, contender: Contender) -> Result<()> {
        let target = self.target(contender, Kind::Http)?;
        let url = target.url("/");
        let what = format!("an answer through {}", contender.title());
        let answer = eventually(&what, || target.client.curl([url.as_str()]));
        answer.map(drop).with_context(|| logs(&target.client))
    }
}

fn service(
    contender: Contender,
    addresses: Addresses,
    path: &'static str,
    kind: Kind,
    servers: &[Ipv4Addr],
) -> String {
    // A datagram takes the kernel path whatever is asked for.
    let path = if kind == Kind::Datagram { "kernel" } else { path };
    let number = addresses.number(kind);
    let name = format!("{}-{}", contender.name(), kind.number());
    let how = (kind.protocol(), path);
    let mut service = Service::new(&name, number, how, [], kind.server_port());
    // IPv4 alone, as with the peers.
    service.instances = servers[..kind.servers()]
        .iter()
        .map(|address| SocketAddr::new((*address).into(), kind.server_port()))
        .collect();
    match contender {
        Contender::Bypass | Contender::ProxyBypass if kind != Kind::Datagram => {
            service.under("{bypass: true}")
        }
        _ => service.to_string(),
    }
}

/// For many short connections, and the same for all pods whatever the system has.
fn tune(pod: &Pod) -> Result<()> {
    let settings = [
        "net.ipv4.ip_local_port_range=10000 65000",
        "net.ipv4.tcp_tw_reuse=1",
        "net.core.somaxconn=4096",
    ];
    pod.run("sysctl", ["-qw"].into_iter().chain(settings)).map(drop)
}

/// What the programs in a pod have printed.
fn logs(pod: &Pod) -> String {
    let files = std::fs::read_dir(&pod.folder).into_iter().flatten().flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    logs.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect()
}
