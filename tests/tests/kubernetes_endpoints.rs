//! Services and endpoints of a cluster come, change and go, and the kernel
//! follows.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Agent, Pod, cluster,
    cluster::{Cluster, SHOP, cluster_ip, until_answered_by},
    eventually,
    server::{
        Nginx,
        kubernetes::object::{service, slice},
    },
};
use serde_json::{Value, json};

/// On the kernel path.
const TCP: &str = "tcp-web";

struct Scene {
    client: Pod,
    servers: Vec<Nginx>,
    cluster: Cluster,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::new(name)?;
        let servers = ["one", "two"].map(|name| Nginx::start(&cluster.world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self { client: cluster.world.client("client")?, servers, cluster })
    }

    fn pods(&self) -> [&Pod; 2] {
        [&self.servers[0].pod, &self.servers[1].pod]
    }

    fn agent(&self) -> Result<Agent> {
        let agent = self.cluster.agent()?;
        agent.wait_for(&self.client)?;
        Ok(agent)
    }

    fn until(&self, agent: &Agent, host: &str, names: &[&str]) -> Result<()> {
        until_answered_by(&self.client, host, names, agent)
    }

    /// Until a connection to this address is refused or ends nowhere.
    fn until_nobody(&self, host: &str) -> Result<()> {
        let url = format!("http://{host}/");
        eventually(&format!("nobody to answer at {host}"), || {
            match self.client.curl(["--max-time", "1", &url]) {
                Ok(answer) => Err(answer),
                Err(_) => Ok(()),
            }
        })
    }
}

#[test]
fn endpoints_come_and_go() -> Result<()> {
    let scene = Scene::new("kubepoints")?;
    let [one, two] = scene.pods();
    scene.cluster.service("web", 20, TCP)?;
    scene.cluster.endpoints("web", TCP, [one])?;
    let agent = scene.agent()?;
    scene.until(&agent, "10.96.0.20", &["one"])?;
    // By each of its names.
    for host in ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
        scene.until(&agent, host, &["one"])?;
    }
    scene.cluster.endpoints("web", TCP, [one, two])?;
    scene.until(&agent, "web.shop", &["one", "two"])?;
    scene.cluster.endpoints("web", TCP, [two])?;
    scene.until(&agent, "web.shop", &["two"])?;

    // One that isn't ready is left out, and used again where none is ready but
    // this one still serves while it ends.
    let mut object = slice((SHOP, "web"), "web-1", TCP, &[one.ip4.into(), two.ip4.into()]);
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    object["endpoints"][0]["conditions"] = leaving.clone();
    scene.cluster.kubernetes.apply(&object)?;
    scene.until(&agent, "web.shop", &["two"])?;
    object["endpoints"][1]["conditions"] = leaving;
    scene.cluster.kubernetes.apply(&object)?;
    scene.until(&agent, "web.shop", &["one", "two"])?;

    scene.cluster.kubernetes.delete("endpointslices", SHOP, "web-1")?;
    scene.until_nobody("10.96.0.20")?;
    scene.cluster.kubernetes.delete("services", SHOP, "web")?;
    eventually("the service to go", || {
        let services = agent.json(["services"])?;
        ensure!(services.as_array().is_some_and(Vec::is_empty), "{services}");
        Ok(())
    })
}

#[test]
fn services_of_other_namespaces_are_left_alone() -> Result<()> {
    let scene = Scene::new("kubealone")?;
    let [one, _] = scene.pods();
    scene.cluster.service("web", 20, TCP)?;
    scene.cluster.endpoints("web", TCP, [one])?;
    let kubernetes = &scene.cluster.kubernetes;
    kubernetes.apply(&mesh_tests::server::kubernetes::object::namespace("other", false))?;
    kubernetes.apply(&service("other", "web", cluster_ip(21), TCP))?;
    kubernetes.apply(&slice(("other", "web"), "web-1", TCP, &[one.ip4.into()]))?;
    let agent = scene.agent()?;
    scene.until(&agent, "10.96.0.20", &["one"])?;
    scene.until_nobody("10.96.0.21")?;
    // Its label makes its services the mesh's, and takes them out again.
    for (captured, there) in [(true, true), (false, false)] {
        kubernetes.apply(&mesh_tests::server::kubernetes::object::namespace("other", captured))?;
        match there {
            true => scene.until(&agent, "web.other", &["one"])?,
            false => scene.until_nobody("10.96.0.21")?,
        }
    }
    scene.until(&agent, "10.96.0.20", &["one"])
}

#[test]
fn two_slices_with_the_same_endpoint_are_one_instance() -> Result<()> {
    let scene = Scene::new("kubetwice")?;
    let [one, two] = scene.pods();
    scene.cluster.service("web", 20, TCP)?;
    scene.cluster.endpoints("web", TCP, [one, two])?;
    scene.cluster.slice("web", "web-2", TCP, [one])?;
    let agent = scene.agent()?;
    scene.until(&agent, "web.shop", &["one", "two"])?;
    let answers = scene.client.curl(["-H", "Connection: close", "http://10.96.0.20/?[1-20]"])?;
    let ones = answers.lines().filter(|answer| *answer == "one").count();
    assert_eq!(ones, 10, "each has half: {answers}");
    // It stays as long as one of them has it.
    scene.cluster.endpoints("web", TCP, [two])?;
    scene.cluster.endpoints("web", TCP, [])?;
    scene.until(&agent, "web.shop", &["one"])
}

#[test]
fn a_service_changes_its_cluster_ip() -> Result<()> {
    let scene = Scene::new("kubemoves")?;
    let [one, _] = scene.pods();
    scene.cluster.service("web", 20, TCP)?;
    scene.cluster.endpoints("web", TCP, [one])?;
    let agent = scene.agent()?;
    scene.until(&agent, "10.96.0.20", &["one"])?;
    // The address can't be changed; it is deleted and made again.
    scene.cluster.kubernetes.delete("services", SHOP, "web")?;
    scene.cluster.service("web", 30, TCP)?;
    scene.until(&agent, "10.96.0.30", &["one"])?;
    scene.until(&agent, "web.shop", &["one"])?;
    scene.until_nobody("10.96.0.20")
}

#[test]
fn a_slice_of_garbage_hurts_nobody_else() -> Result<()> {
    let scene = Scene::new("kubegarbage")?;
    if !scene.cluster.kubernetes.does("accept objects that make no sense") {
        return Ok(());
    }
    let [one, two] = scene.pods();
    scene.cluster.service("web", 20, TCP)?;
    scene.cluster.endpoints("web", TCP, [one])?;
    let mut garbage = slice((SHOP, "web"), "web-2", TCP, &[two.ip4.into()]);
    garbage["endpoints"] = json!("none of your business");
    scene.cluster.kubernetes.apply(&garbage)?;
    let agent = scene.agent()?;
    scene.until(&agent, "web.shop", &["one"])?;
    let unreadable = |agent: &Agent| -> Result<Value> {
        Ok(cluster::watch_of(agent, "endpointslices")?["unreadable"].clone())
    };
    let said = unreadable(&agent)?;
    ensure!(said.to_string().contains("shop/web-2"), "{said}");

    // What was known of one that becomes garbage stands.
    let mut worse = slice((SHOP, "web"), "web-1", TCP, &[one.ip4.into()]);
    worse["endpoints"][0]["addresses"] = json!({"not": "a list"});
    scene.cluster.kubernetes.apply(&worse)?;
    eventually("status to name both", || {
        let said = unreadable(&agent)?;
        ensure!(said.to_string().contains("shop/web-1"), "{said}");
        Ok(())
    })?;
    scene.until(&agent, "web.shop", &["one"])?;
    // And they heal.
    scene.cluster.slice("web", "web-2", TCP, [two])?;
    scene.cluster.endpoints("web", TCP, [one])?;
    scene.until(&agent, "web.shop", &["one", "two"])?;
    let said = unreadable(&agent)?;
    ensure!(said.as_array().is_some_and(Vec::is_empty), "{said}");
    Ok(())
}

/// Connects, says so, and tells on each line of its input whether the
/// connection still carries bytes both ways.
const TALKER: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], 80), 5)
def ask():
    connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    return connection.recv(4096).split()[-1].decode()
print(ask(), flush=True)
for line in sys.stdin:
    print(ask(), flush=True)
"#;

struct Talker(Child, std::io::Lines<std::io::BufReader<std::process::ChildStdout>>);

impl Talker {
    fn start(pod: &Pod, address: &str) -> Result<Self> {
        use std::io::BufRead as _;
        let mut command: Command = pod.command("python3")?;
        command.args(["-c", TALKER, address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("its output is piped")?;
        Ok(Self(child, std::io::BufReader::new(output).lines()))
    }

    fn answer(&mut self) -> Result<String> {
        Ok(self.1.next().context("it ended")??)
    }

    fn ask(&mut self) -> Result<String> {
        use std::io::Write as _;
        self.0.stdin.as_mut().context("its input is piped")?.write_all(b"\n")?;
        self.answer()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pod_is_deleted_while_connections_live() -> Result<()> {
    let scene = Scene::new("kubedeleted")?;
    let [one, two] = scene.pods();
    scene.cluster.service("web", 20, TCP)?;
    scene.cluster.endpoints("web", TCP, [one])?;
    let agent = scene.agent()?;
    scene.until(&agent, "10.96.0.20", &["one"])?;
    let mut talker = Talker::start(&scene.client, "10.96.0.20")?;
    assert_eq!(talker.answer()?, "one");
    // The pod ends: first it isn't ready, then it is gone.
    let mut leaving = slice((SHOP, "web"), "web-1", TCP, &[one.ip4.into(), two.ip4.into()]);
    leaving["endpoints"][0]["conditions"] =
        json!({"ready": false, "serving": true, "terminating": true});
    scene.cluster.kubernetes.apply(&leaving)?;
    scene.until(&agent, "10.96.0.20", &["two"])?;
    assert_eq!(talker.ask()?, "one", "what lives goes on");
    scene.cluster.endpoints("web", TCP, [two])?;
    eventually("the endpoint to be gone", || {
        let endpoints = agent.json(["endpoints"])?.to_string();
        ensure!(!endpoints.contains(&format!("\"{}:80\"", one.ip4)), "{endpoints}");
        Ok(())
    })?;
    assert_eq!(talker.ask()?, "one", "as long as the pod itself does");
    scene.until(&agent, "10.96.0.20", &["two"])
}
