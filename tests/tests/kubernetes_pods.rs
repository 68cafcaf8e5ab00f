//! Pods of Kubernetes: those that are labelled are captured, at run time, with
//! no restart; all others, and the node itself, notice nothing.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Agent, Class, Driver, KubePod, Kubepods, Pod, Service, World, eventually,
    server::{Nginx, kubernetes::Kubernetes, wait_for_port},
    text,
};
use serde_json::{Value, json};

const NODE: &str = "node-1";

/// A node with an API server, an instance of two services, and no agent yet.
struct Node {
    api: Kubernetes,
    server: Nginx,
    kubepods: Kubepods,
    kernel: Service,
    proxied: Service,
    world: World,
}

impl Node {
    fn new(name: &str, driver: Driver) -> Result<Self> {
        let world = World::new(name)?;
        let server = Nginx::start(&world.backend("server")?)?;
        let instances = [&server.pod];
        let kernel = Service::new("fast", 20, ("tcp", "kernel"), instances, 80);
        let proxied = Service::new("web", 21, ("http", "proxy"), instances, 80);
        let kubepods = Kubepods::new(&world, driver);
        let node =
            Self { api: Kubernetes::start(&world)?, server, kubepods, kernel, proxied, world };
        node.label_namespace(&json!({}))?;
        node.api.apply(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {}},
        }))?;
        Ok(node)
    }

    fn agent(&self) -> Result<Agent> {
        let others = format!(
            "dns: {{enabled: true}}\nkubernetes: {{enabled: true, node: {NODE}, services: none, \
             kubeconfig: {}}}\n",
            self.api.kubeconfig()?.display()
        );
        Agent::start_with(&self.world, &others, &format!("{}{}", self.kernel, self.proxied))
    }

    fn label_namespace(&self, labels: &Value) -> Result<()> {
        let metadata = json!({"name": "default", "labels": labels});
        self.api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))?;
        Ok(())
    }

    fn pod(&self, name: &str, class: Class, labels: &Value) -> Result<KubePod> {
        self.edited_pod(name, class, labels, |_| ())
    }

    /// [`Node::pod`] whose object says something else, too.
    fn edited_pod(
        &self,
        name: &str,
        class: Class,
        labels: &Value,
        edit: impl Fn(&mut Value),
    ) -> Result<KubePod> {
        let mut created = KubePod::created(name, NODE, labels);
        edit(&mut created);
        let created = self.api.apply(&created)?;
        let uid = created["metadata"]["uid"].as_str().context("no uid")?;
        let pod = self.kubepods.pod(&self.world, name, class, uid)?;
        let mut object = pod.object(NODE, labels);
        edit(&mut object);
        self.api.apply(&object)?;
        Ok(pod)
    }

    fn label(&self, pod: &KubePod, labels: &Value) -> Result<()> {
        self.api.apply(&pod.object(NODE, labels)).map(drop)
    }

    /// Whether the pod reaches both services, and their names.
    fn is_captured(&self, pod: &Pod) -> Result<()> {
        for url in [format!("http://{}/", self.kernel.ip4()), "http://web/".to_owned()] {
            let answer = pod.curl(["--max-time", "3", &url])?;
            ensure!(answer == "server\n", "{url} of {}: {answer}", pod.name);
        }
        Ok(())
    }

    /// Nobody has the services' addresses, so that a socket that is left alone
    /// reaches nothing.
    fn is_left_alone(&self, pod: &Pod) -> Result<()> {
        for service in [&self.kernel, &self.proxied] {
            let url = format!("http://{}/", service.ip4());
            let answer = pod.curl(["--max-time", "3", &url]);
            ensure!(answer.is_err(), "{url} of {}: {answer:?}", pod.name);
        }
        Ok(())
    }
}

fn wanted() -> Value {
    json!({"mesh.dev/capture": "true"})
}

/// A connection that stays, and asks for a page whenever it is told to.
struct Held {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Held {
    fn open(pod: &Pod, address: &str) -> Result<Self> {
        const PROGRAM: &str = "import http.client, sys\n\
            connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=5)\n\
            for line in sys.stdin:\n    \
                connection.request('GET', '/')\n    \
                print(connection.getresponse().read().decode().strip(), flush=True)";
        let mut command = pod.command("python3")?;
        command.args(["-c", PROGRAM, address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("it is piped")?;
        let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let mut held = Self { child, input, lines };
        held.ask()?;
        Ok(held)
    }

    /// On the connection that there is: the client makes no other while the
    /// server keeps it open.
    fn ask(&mut self) -> Result<()> {
        self.input.write_all(b"again\n")?;
        let line = self.lines.next().context("the client ended")??;
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

/// What a scraper sees.
fn metrics(agent: &Agent) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["-sSf", &format!("http://{}/metrics", agent.http())]);
    text(command)
}

#[test]
fn labelled_pods_are_captured_with_the_systemd_driver() -> Result<()> {
    labelled_pods_are_captured("kubesystemd", Driver::Systemd)
}

#[test]
fn labelled_pods_are_captured_with_the_cgroupfs_driver() -> Result<()> {
    labelled_pods_are_captured("kubecgroupfs", Driver::Cgroupfs)
}

#[test]
fn labelled_pods_are_captured_below_a_parent_of_the_kubelet() -> Result<()> {
    labelled_pods_are_captured("kubebelow", Driver::SystemdBelow)
}

/// Pods of each class that run already, and one of each that comes later.
fn labelled_pods_are_captured(name: &str, driver: Driver) -> Result<()> {
    let node = Node::new(name, driver)?;
    node.kubepods.create()?;
    let before = node.pod("before", Class::Burstable, &wanted())?;
    let guaranteed = node.pod("guaranteed", Class::Guaranteed, &wanted())?;
    let other = node.pod("other", Class::BestEffort, &json!({}))?;
    let agent = node.agent()?;
    for pod in [&before, &guaranteed] {
        eventually("a pod that ran before to be captured", || node.is_captured(&pod.pod))?;
    }
    node.is_left_alone(&other.pod)?;

    let late = node.pod("late", Class::BestEffort, &wanted())?;
    agent.wait_for(&late.pod)?;
    node.is_captured(&late.pod)?;

    // In the file's cgroups all are captured, as ever.
    let client = node.world.client("client")?;
    agent.wait_for(&client)?;
    node.is_captured(&client)?;

    let explained = agent.json(["explain", "10.96.0.20:80", "--from", &late.full_name()])?;
    assert_eq!(explained["path"], "kernel", "{explained}");
    for from in [other.full_name(), other.pod.cgroup.display().to_string()] {
        let left = agent.output(["explain", "10.96.0.20:80", "--from", &from])?;
        let text = String::from_utf8_lossy(&left.stdout);
        assert!(
            left.status.code() == Some(1) && text.contains("neither it nor its namespace"),
            "{text}"
        );
    }
    let status = agent.json(["status"])?;
    let above = node.kubepods.path.display().to_string();
    let hooks = status["hooks"].as_array().context("a list of hooks")?;
    let here = |hook: &&Value| hook["cgroup"] == above && hook["ok"] == true;
    assert_eq!(hooks.iter().filter(here).count(), 10, "{status}");
    let reasons = status["reasons"].as_array().context("a list of reasons")?;
    let passed = reasons.iter().find(|reason| reason["name"] == "pod-not-captured");
    assert!(passed.is_some_and(|reason| reason["count"].as_u64() > Some(0)), "{status}");
    Ok(())
}

#[test]
fn a_label_counts_at_once_and_leaves_connections_alone() -> Result<()> {
    let node = Node::new("kubelabel", Driver::Systemd)?;
    node.kubepods.create()?;
    let pod = node.pod("web-1", Class::Burstable, &json!({}))?;
    let out = node.pod("out", Class::Burstable, &json!({"mesh.dev/capture": "false"}))?;
    let agent = node.agent()?;
    node.is_left_alone(&pod.pod)?;
    // This one goes straight to the instance.
    let mut direct = Held::open(&pod.pod, &node.server.pod.ip4.to_string())?;

    node.label(&pod, &wanted())?;
    eventually("the pod to be captured", || node.is_captured(&pod.pod))?;
    direct.ask()?;
    let mut kernel = Held::open(&pod.pod, &node.kernel.ip4().to_string())?;
    let mut proxied = Held::open(&pod.pod, &node.proxied.ip4().to_string())?;
    let connections = agent.json(["connections"])?;
    let connections = connections.as_array().context("a list of connections")?;
    for path in ["kernel", "proxy"] {
        let found = connections.iter().find(|connection| connection["path"] == path);
        let who = &found.with_context(|| format!("no {path} in {connections:?}"))?["who"];
        let expected = json!({
            "namespace": "default", "name": "web-1", "serviceAccount": "web-1-account",
        });
        assert_eq!(who["pod"], expected, "{who}");
    }
    let metrics = metrics(&agent)?;
    for (service, path) in [("fast", "kernel"), ("web", "proxy")] {
        let series = format!(
            "mesh_client_connections{{namespace=\"default\",service_account=\"web-1-account\",\
             service=\"{service}\",path=\"{path}\"}} 1.0\n"
        );
        assert!(metrics.contains(&series), "no {series} in {metrics}");
    }
    assert!(metrics.contains("mesh_captured_pods{namespace=\"default\"} 1.0\n"), "{metrics}");

    agent.ask(["logs", "--level", "info,mesh_agent::access=debug"])?;
    eventually("the access log to name the pod", || {
        proxied.ask()?;
        let log = agent.log();
        let mut lines = log.lines().filter(|line| line.contains("mesh_agent::access"));
        let line = lines.find(|line| line.contains("default/web-1")).context("no line of it")?;
        ensure!(line.contains("web-1-account") && line.contains("status=200"), "{line}");
        Ok(())
    })?;

    node.label(&pod, &json!({}))?;
    eventually("the pod to be let go", || node.is_left_alone(&pod.pod))?;
    for held in [&mut direct, &mut kernel, &mut proxied] {
        held.ask()?;
    }

    node.label_namespace(&wanted())?;
    eventually("the namespace's label to count", || node.is_captured(&pod.pod))?;
    node.is_left_alone(&out.pod)?;
    for held in [&mut direct, &mut kernel, &mut proxied] {
        held.ask()?;
    }
    Ok(())
}

#[test]
fn captured_pods_outlive_the_agent_and_the_api_server() -> Result<()> {
    let mut node = Node::new("kubeoutlive", Driver::Cgroupfs)?;
    node.kubepods.create()?;
    let pod = node.pod("web-1", Class::Guaranteed, &wanted())?;
    let other = node.pod("other", Class::Guaranteed, &json!({}))?;
    let mut agent = node.agent()?;
    eventually("the pod to be captured", || node.is_captured(&pod.pod))?;

    agent.kill9()?;
    let both = format!("http://{{{},{}}}/", node.kernel.ip4(), node.proxied.ip4());
    assert_eq!(pod.pod.curl([both.as_str()])?, "server\nserver\n", "the kernel balances both");
    node.is_left_alone(&other.pod)?;

    node.api.go_away()?;
    agent.restart()?;
    agent.wait_for(&pod.pod)?;
    node.is_captured(&pod.pod)?;
    node.is_left_alone(&other.pod)?;

    // Back again, with another mind.
    node.api.come_back()?;
    node.label(&other, &wanted())?;
    node.label(&pod, &json!({"mesh.dev/capture": "false"}))?;
    eventually("the other pod to be captured", || node.is_captured(&other.pod))?;
    eventually("the pod to be let go", || node.is_left_alone(&pod.pod))
}

#[test]
fn a_kubelet_may_come_after_the_agent() -> Result<()> {
    let node = Node::new("kubelater", Driver::Systemd)?;
    let agent = node.agent()?;
    let status = agent.json(["status"])?;
    assert!(status["degraded"].to_string().contains("no pod is captured"), "{status}");

    node.kubepods.create()?;
    let pod = node.pod("web-1", Class::Burstable, &wanted())?;
    eventually("the pod to be captured", || node.is_captured(&pod.pod))?;
    let status = agent.json(["status"])?;
    assert!(!status["degraded"].to_string().contains("no pod is captured"), "{status}");
    Ok(())
}

/// Although each of them, or its namespace, has the label.
#[test]
fn some_pods_are_left_alone_whatever_their_labels_say() -> Result<()> {
    let node = Node::new("kubeleft", Driver::Systemd)?;
    node.kubepods.create()?;
    let pod =
        |name, edit: &dyn Fn(&mut Value)| node.edited_pod(name, Class::Burstable, &wanted(), edit);
    let host = pod("host", &|object| object["spec"]["hostNetwork"] = true.into())?;
    let out = pod("out", &|object| {
        object["metadata"]["annotations"] = json!({"mesh.dev/capture": "false"});
    })?;
    let done = pod("done", &|object| object["status"] = json!({"phase": "Succeeded"}))?;
    let plain = pod("plain", &|_| ())?;
    let agent = node.agent()?;
    eventually("the plain pod to be captured", || node.is_captured(&plain.pod))?;
    for (pod, why) in [(&host, "host's network"), (&out, "annotation"), (&done, "finished")] {
        node.is_left_alone(&pod.pod)?;
        let from = pod.full_name();
        let told = agent.output(["explain", "10.96.0.20:80", "--from", &from])?;
        let text = String::from_utf8_lossy(&told.stdout);
        ensure!(told.status.code() == Some(1) && text.contains(why), "{from}: {text}");
    }
    Ok(())
}

/// The kubelet connects to pods from the node, which is no pod.
#[test]
fn probes_of_the_kubelet_are_untouched() -> Result<()> {
    let node = Node::new("kubeprobe", Driver::Systemd)?;
    node.kubepods.create()?;
    let pod = node.pod("web-1", Class::Burstable, &wanted())?;
    let agent = node.agent()?;
    eventually("the pod to be captured", || node.is_captured(&pod.pod))?;
    let probed = Nginx::start(&pod.pod)?;
    wait_for_port(&pod.pod, 80)?;

    let kubelet = node.world.backend("kubelet")?;
    let seen = || -> Result<Value> {
        let status = agent.json(["status"])?;
        Ok(status["reasons"].clone())
    };
    let before = seen()?;
    assert_eq!(kubelet.curl([&format!("http://{}/", pod.pod.ip4) as &str])?, "web-1\n");
    assert_eq!(probed.clients().last(), Some(&kubelet.ip4.to_string()), "its own address");
    node.is_left_alone(&kubelet)?;
    assert_eq!(seen()?, before, "no hook ran");
    Ok(())
}
