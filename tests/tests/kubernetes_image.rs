//! The image, in containerd, as the DaemonSet runs it: it meshes a pod, answers
//! commands, and is replaced by another with nothing lost.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Class, Containerd, Driver, KubePod, Kubepods, Mount, Pod, Service, World, eventually,
    eventually_for,
    server::{Nginx, kubernetes::Kubernetes},
    text,
};
use serde_json::json;

const NODE: &str = "node-1";

/// A node with a container runtime, a labelled pod, and no agent yet.
struct Node {
    image: String,
    containerd: Containerd,
    server: Nginx,
    pod: KubePod,
    kernel: Service,
    proxied: Service,
    api: Kubernetes,
    world: World,
}

impl Node {
    fn new() -> Result<Self> {
        let world = World::new("image")?;
        let api = Kubernetes::start(&world)?;
        let server = Nginx::start(&world.backend("server")?)?;
        let kernel = Service::new("fast", 20, ("tcp", "kernel"), [&server.pod], 80);
        let proxied = Service::new("web", 21, ("http", "proxy"), [&server.pod], 80);
        let kubepods = Kubepods::new(&world, Driver::Systemd);
        kubepods.create()?;
        let labels = json!({"mesh.dev/capture": "true"});
        api.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}),
        )?;
        api.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}))?;
        let created = api.apply(&KubePod::created("shop", NODE, &labels))?;
        let uid = created["metadata"]["uid"].as_str().context("no uid")?;
        let pod = kubepods.pod(&world, "shop", Class::Burstable, uid)?;
        api.apply(&pod.object(NODE, &labels))?;
        let containerd = Containerd::start(&world)?;
        let image = containerd.import(&archive(&world)?)?;
        let node = Self { image, containerd, server, pod, kernel, proxied, api, world };
        node.configure()?;
        Ok(node)
    }

    /// What the ConfigMap is on a cluster.
    fn configure(&self) -> Result<()> {
        let (etc, run) = (self.world.folder().join("etc"), self.world.folder().join("run"));
        fs::create_dir_all(&etc)?;
        fs::create_dir_all(run)?;
        let config = format!(
            "capture: {{kubepods: {}, pins: {}, proxyPort: {}}}\n\
             admin: {{http: \"127.0.0.1:{}\"}}\n\
             kubernetes: {{enabled: true, services: none, kubeconfig: {}}}\n\
             services:\n{}{}",
            self.world.cgroup().display(),
            self.world.pins().display(),
            15_101 + self.world.lane(),
            15_120 + self.world.lane(),
            self.api.kubeconfig()?.display(),
            self.kernel,
            self.proxied,
        );
        Ok(fs::write(etc.join("mesh.yaml"), config)?)
    }

    /// Mounts, rights and namespaces are those of the DaemonSet, but for the
    /// network: this API server listens on the host's loopback.
    fn run(&self, container: &str) -> Result<()> {
        let folder = self.world.folder();
        let mount = |from: PathBuf, to: &str, options| Mount { from, to: to.into(), options };
        let api = folder.join("kubernetes");
        let mounts = [
            mount("/sys/fs/bpf".into(), "/sys/fs/bpf", &["rbind", "rw", "rshared"]),
            mount(folder.join("run"), "/run/mesh-agent", &["rbind", "rw"]),
            mount(folder.join("etc"), "/etc/mesh-agent", &["rbind", "ro"]),
            Mount { from: api.clone(), to: api, options: &["rbind", "ro"] },
        ];
        let environment = [format!("NODE_NAME={NODE}")];
        let log = self.log(container);
        self.containerd.run(&self.image, container, &environment, &mounts, &log)?;
        eventually("the agent in its container to be ready", || self.status(container))
            .with_context(|| fs::read_to_string(self.log(container)).unwrap_or_default())?;
        Ok(())
    }

    fn log(&self, container: &str) -> PathBuf {
        self.world.folder().join(format!("{container}.log"))
    }

    /// What `kubectl exec ds/mesh-agent -- mesh-agent status` runs.
    fn status(&self, container: &str) -> Result<String> {
        let exec = ["task", "exec", "--exec-id", "status", container, "mesh-agent", "status"];
        self.containerd.ctr(exec)
    }

    fn is_meshed(&self) -> Result<()> {
        for service in [&self.kernel, &self.proxied] {
            let url = format!("http://{}/", service.ip4());
            let answer = self.pod.pod.curl(["--max-time", "3", &url])?;
            ensure!(answer == "server\n", "{url}: {answer}");
        }
        Ok(())
    }
}

/// Made anew: what is tested is this tree.
fn archive(world: &World) -> Result<PathBuf> {
    let output = world.folder().join("agent.tar");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests stand in the tree")?;
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["xtask", "image", "--debug", "--output"]).arg(&output).current_dir(root);
    println!("{}", text(command)?);
    Ok(output)
}

/// A connection that stays, and asks for a page whenever it is told to.
struct Held {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Held {
    fn open(pod: &Pod, address: &str) -> Result<Self> {
        const PROGRAM: &str = "import socket, sys\n\
            stream = socket.create_connection((sys.argv[1], 80), timeout=5)\n\
            file = stream.makefile('rb')\n\
            for line in sys.stdin:\n    \
                stream.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n    \
                while file.readline().strip(): pass\n    \
                print(file.readline().decode().strip(), flush=True)";
        let mut command = pod.command("python3")?;
        command.args(["-c", PROGRAM, address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("it is piped")?;
        let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let mut held = Self { child, input, lines };
        held.ask()?;
        Ok(held)
    }

    fn ask(&mut self) -> Result<()> {
        self.input.write_all(b"again\n")?;
        let line = self.lines.next().context("the connection was lost")??;
        ensure!(line == "server", "{line}");
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// New connections to both services until the file `stop` appears: `ok` or an
/// error a line.
const KNOCK: &str = "while [ ! -e $0/stop ]; do for host in $1 $2; do \
    if answer=$(curl -sS --max-time 5 -H 'Connection: close' http://$host/ 2>&1); \
    then echo ok; else echo $host $answer; fi; done; done";

#[test]
fn the_image_meshes_a_pod_and_is_replaced_with_nothing_lost() -> Result<()> {
    let node = Node::new()?;
    node.run("agent-1")?;
    eventually("the pod to be meshed", || node.is_meshed())?;
    let status = node.status("agent-1")?;
    println!("{status}");
    let pod = &node.pod.pod;

    let mut held = Held::open(pod, &node.kernel.ip4().to_string())?;
    let folder = node.world.folder();
    let mut knock = pod.command("sh")?;
    knock.args(["-c", KNOCK]).arg(folder);
    knock.args([node.kernel.ip4().to_string(), node.proxied.ip4().to_string()]);
    let mut knock = pod.spawn_command("knock", knock)?;
    const SIZE: usize = 3 << 20;
    node.server.serve("large", &vec![b'x'; SIZE])?;
    let url = format!("http://{}/files/large", node.proxied.ip4());
    let slow = ["-sS", "--limit-rate", "1M", "--write-out", "%{http_code} %{size_download}"];
    let mut slow_command = pod.command("curl")?;
    slow_command.args(slow).args(["--output", "/dev/null", &url]).stdout(Stdio::piped());
    let slow = slow_command.spawn()?;
    eventually("some connections", || match oks(&knock.log()) {
        0..=5 => Err(knock.log()),
        _ => Ok(()),
    })?;

    node.containerd.stop("agent-1")?;
    let between = oks(&knock.log());
    held.ask()?;
    node.run("agent-2")?;
    node.is_meshed()?;
    held.ask()?;
    let slow = slow.wait_with_output()?;
    assert_eq!(String::from_utf8_lossy(&slow.stdout), format!("200 {SIZE}"), "a request was cut");
    eventually_for(Duration::from_secs(15), "more connections", || match oks(&knock.log()) {
        count if count > between + 5 => Ok(()),
        _ => Err(knock.log()),
    })?;
    fs::write(folder.join("stop"), "")?;
    knock.wait()?;
    let log = knock.log();
    let failed: Vec<&str> = log.lines().filter(|line| *line != "ok").collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), log.lines().count());
    println!("{} connections, none lost", oks(&log));
    node.containerd.stop("agent-2")
}

fn oks(log: &str) -> usize {
    log.lines().filter(|line| *line == "ok").count()
}
