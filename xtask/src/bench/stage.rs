//! One world with everything in it: servers, a client for each contender, and
//! what stands between them. All of it runs all the time; only one works.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
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

/// Of each kind of contender.
pub const SERVERS: usize = 3;

/// Virtual addresses that only rules of iptables know.
const RULES: Addresses = Addresses { base: 80 };

/// Fields are dropped in this order; the world last.
#[derive(Debug)]
pub struct Stage {
    agent: Option<Agent>,
    _peers: Vec<Process>,
    trios: BTreeMap<Trio, Vec<Backend>>,
    clients: BTreeMap<Contender, Pod>,
    world: World,
}

/// Servers of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trio {
    /// Nobody captures them.
    Plain,
    /// Captured by our agent, as clients on the same node are.
    Captured,
    /// With an Envoy in front.
    Sidecars,
}

impl Trio {
    fn of(contender: Contender) -> Self {
        match contender {
            Contender::Node => Self::Captured,
            Contender::Pair => Self::Sidecars,
            _ => Self::Plain,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Captured => "captured",
            Self::Sidecars => "sidecars",
        }
    }
}

/// The virtual addresses by which the agent knows a contender's services.
fn addresses(contender: Contender) -> Option<(Addresses, &'static str)> {
    match contender {
        Contender::Kernel => Some((Addresses { base: 10 }, "kernel")),
        Contender::Node => Some((Addresses { base: 20 }, "kernel")),
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
            trios: BTreeMap::new(),
            clients: BTreeMap::new(),
            world,
        };
        for contender in contenders {
            stage.add_servers(Trio::of(*contender), cores)?;
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

    fn add_servers(&mut self, trio: Trio, cores: &Cores) -> Result<()> {
        if self.trios.contains_key(&trio) {
            return Ok(());
        }
        let mut servers = Vec::new();
        for number in 1..=SERVERS {
            let name = format!("{}-{number}", trio.name());
            let pod = match trio {
                Trio::Captured => self.world.client(&name)?,
                _ => self.world.backend(&name)?,
            };
            tune(&pod)?;
            servers.push(Backend::start(pod, cores)?);
        }
        self.trios.insert(trio, servers);
        Ok(())
    }

    fn servers(&self, contender: Contender) -> Vec<Pod> {
        let servers = self.trios.get(&Trio::of(contender)).into_iter().flatten();
        servers.map(|backend| backend.pod.clone()).collect()
    }

    /// One agent for all of our contenders, as on a node.
    fn start_agent(&mut self, binary: &Path) -> Result<()> {
        let mut services = String::new();
        for contender in self.clients.keys() {
            if let Some((addresses, path)) = addresses(*contender) {
                let servers = self.servers(*contender);
                services.extend(
                    Kind::ALL
                        .map(|kind| service(contender.name(), addresses, path, kind, &servers)),
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
        let upstream = Upstream { servers: self.servers(contender) };
        let envoy = || peer::install::envoy().context("Envoy isn't installed");
        match contender {
            Contender::Direct | Contender::Kernel | Contender::Node | Contender::Proxy => {}
            Contender::Iptables => interception::kube_proxy(&client, RULES, &upstream.servers)?,
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
                    for pod in &upstream.servers {
                        let role = Role::Server;
                        let sidecar = peer::envoy::run(&envoy()?, pod, role, &upstream, cores)?;
                        self._peers.push(sidecar);
                        interception::inbound(pod)?;
                    }
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
            Contender::Direct => {
                let servers = self.servers(contender);
                let server = servers.first().context("no servers")?;
                (server.ip4.to_string(), kind.server_port())
            }
            Contender::Iptables | Contender::Sidecar | Contender::Pair => {
                (RULES.of(kind).to_string(), Addresses::PORT)
            }
            Contender::Haproxy | Contender::Nginx | Contender::Envoy => {
                ("127.0.0.1".to_owned(), peer::explicit_port(kind))
            }
            Contender::Kernel | Contender::Node | Contender::Proxy => {
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
            let servers = self.servers(contender);
            groups.extend(servers.iter().map(|pod| pod.cgroup.join(peer::GROUP)));
        }
        Ok(groups)
    }

    /// Cgroups of all that work for a contender: client, servers, proxies.
    pub fn whole_path(&self, contender: Contender) -> Result<Vec<PathBuf>> {
        // Those of peers are below those of their pods.
        let mut groups = vec![self.client(contender)?.cgroup.clone()];
        groups.extend(self.servers(contender).into_iter().map(|pod| pod.cgroup));
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
    name: &str,
    addresses: Addresses,
    path: &'static str,
    kind: Kind,
    servers: &[Pod],
) -> String {
    // A datagram takes the kernel path whatever is asked for.
    let path = if kind == Kind::Datagram { "kernel" } else { path };
    let number = addresses.number(kind);
    let name = format!("{name}-{}", kind.number());
    let how = (kind.protocol(), path);
    let mut service = Service::new(&name, number, how, [], kind.server_port());
    // IPv4 alone, as with the peers.
    service.instances = servers[..kind.servers()]
        .iter()
        .map(|pod| SocketAddr::new(pod.ip4.into(), kind.server_port()))
        .collect();
    service.to_string()
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
