//! Instances out of DNS and HTTP: they come, change and stay with what serves,
//! whatever becomes of the servers that name them.
//!
//! The servers stand where the agent is: on the loopback address of this
//! process's namespace. Consul isn't to be had from a package registry, so its
//! API is spoken by a small server here.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Process, World, eventually, server::Nginx};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Longer than any test.
const SECONDS: u32 = 60;
/// Of the service's virtual address.
const URL: &str = "http://10.96.0.20/";

/// Two backends, a client, and the YAML of a service with these endpoints.
struct Scene {
    client: Pod,
    servers: Vec<Nginx>,
    world: World,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let world = World::new(name)?;
        let servers = ["one", "two"].map(|name| Nginx::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self { client: world.client("client")?, servers, world })
    }

    fn agent(&self, protocol: &str, endpoints: &str) -> Result<Agent> {
        let agent = Agent::start(&self.world, &service(protocol, endpoints))?;
        agent.wait_for(&self.client)?;
        Ok(agent)
    }

    fn ip(&self, number: usize) -> String {
        self.servers[number].pod.ip4.to_string()
    }

    /// A port of the loopback address that no other world uses.
    fn port(&self, base: u16) -> u16 {
        base + self.world.lane()
    }

    fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.world.folder().join(name);
        // In one step: a server must not read half of it.
        let fresh = self.world.folder().join(format!("{name}.new"));
        fs::write(&fresh, content)?;
        fs::rename(fresh, &path)?;
        Ok(path)
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.world.command(program, SECONDS)?;
        command.args(arguments);
        Process::start(program, command, self.world.folder().join(format!("{program}.log")))
    }

    /// Who answers.
    fn answer(&self) -> Result<String> {
        Ok(self.client.curl(["--max-time", "5", URL])?.trim().to_owned())
    }

    /// Until exactly these answer, and no request fails any more.
    fn until(&self, agent: &Agent, names: &[&str]) -> Result<()> {
        eventually(&format!("{names:?} to answer"), || {
            let seen = (0..8).map(|_| self.answer()).collect::<Result<BTreeSet<_>>>()?;
            let expected = names.iter().map(|&name| name.to_owned()).collect();
            ensure!(seen == expected, "{seen:?}; {}", agent.ask(["status"])?);
            Ok(())
        })
    }
}

/// Connects again and again until its input ends; prints how often it worked,
/// and how often not.
const LOAD: &str = r#"
import socket, sys, threading
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
good = bad = 0
while not stop.is_set():
    try:
        with socket.create_connection(("10.96.0.20", 80), 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
            good += b" 200 OK" in b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        bad += 1
print(good, bad)
"#;

struct Load(Child);

impl Load {
    fn start(pod: &Pod) -> Result<Self> {
        let mut command = pod.command("python3")?;
        command.args(["-c", LOAD]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Ends it; an error where a single connection failed.
    fn finish(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let output = String::from_utf8(self.0.wait_with_output()?.stdout)?;
        let (good, bad) = output.trim().split_once(' ').context("two numbers")?;
        ensure!(good.parse::<u32>()? > 10 && bad == "0", "{good} good, {bad} bad");
        Ok(())
    }
}

fn service(protocol: &str, endpoints: &str) -> String {
    format!(
        "  - name: web\n    address: 10.96.0.20\n    \
         ports: [{{port: 80, protocol: {protocol}}}]\n    endpoints: {{{endpoints}}}\n"
    )
}

/// `sources` of `status`.
fn sources(agent: &Agent) -> Result<Vec<Value>> {
    let mut status = agent.json(["status"])?;
    serde_json::from_value(status["sources"].take()).context("status has sources")
}

/// Until the only source is in this state with so many instances.
fn until_state(agent: &Agent, state: &str, instances: u64) -> Result<Value> {
    eventually(&format!("the source to be {state} with {instances}"), || {
        let sources = sources(agent)?;
        let [source] = &sources[..] else { anyhow::bail!("one source: {sources:?}") };
        let right = source["state"] == state && source["instances"] == instances;
        ensure!(right, "{source}");
        Ok(source.clone())
    })
}

fn pid_file(scene: &Scene) -> PathBuf {
    scene.world.folder().join("dnsmasq.pid")
}

/// Has dnsmasq read other hosts. By its own pid: `timeout`, which it runs
/// under, passes each signal on once only.
fn rewrite(scene: &Scene, hosts: &str) -> Result<()> {
    scene.file("hosts", hosts)?;
    let pid = fs::read_to_string(pid_file(scene))?.trim().parse()?;
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGHUP)?)
}

fn dnsmasq(scene: &Scene, hosts: &str, more: &[&str]) -> Result<(Process, u16)> {
    let port = scene.port(15_320);
    let hosts = scene.file("hosts", hosts)?;
    let pid_file = format!("--pid-file={}", pid_file(scene).display());
    let (port_option, hosts) =
        (format!("--port={port}"), format!("--addn-hosts={}", hosts.display()));
    let usual = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--local=/test/",
        "--local-ttl=1",
        "--log-facility=-",
        &pid_file,
        &port_option,
        &hosts,
    ];
    Ok((scene.start("dnsmasq", &[&usual[..], more].concat())?, port))
}

#[test]
fn dns_is_followed_and_its_death_takes_nothing_out_not_even_with_a_restart() -> Result<()> {
    let scene = Scene::new("disc-dns")?;
    let (one, two) = (format!("{} web.test\n", scene.ip(0)), format!("{} web.test\n", scene.ip(1)));
    let (mut dnsmasq, port) = dnsmasq(&scene, &one, &[])?;
    let source = format!(
        "dns: {{name: web.test, server: '127.0.0.1:{port}', ttl: {{min: 200ms}}, timeout: 1s, \
         emptyAfter: 2}}"
    );
    let mut agent = scene.agent("tcp", &source)?;
    scene.until(&agent, &["one"])?;
    rewrite(&scene, &format!("{one}{two}"))?;
    scene.until(&agent, &["one", "two"])?;

    rewrite(&scene, "")?;
    until_state(&agent, "empty", 0)?;
    eventually("the service to be without instances", || match scene.answer() {
        Err(_) => Ok(()),
        Ok(name) => Err(name),
    })?;
    rewrite(&scene, &two)?;
    scene.until(&agent, &["two"])?;

    dnsmasq.signal(Signal::SIGTERM)?;
    dnsmasq.wait()?;
    let source = until_state(&agent, "failing", 1)?;
    ensure!(source["lastError"].as_str().is_some_and(|e| e.contains("127.0.0.1")), "{source}");
    ensure!(source["ageMs"].is_u64() && source["errors"].as_u64() > Some(0), "{source}");
    scene.until(&agent, &["two"])?;
    let status = agent.json(["status"])?;
    let degraded = status["degraded"].to_string();
    ensure!(degraded.contains("dns source web.test of web fails"), "{degraded}");
    ensure!(agent.ask(["status"])?.contains("✗ failing"), "the table says so");

    // The next agent can't ask anybody: what serves goes on, all the time.
    let load = Load::start(&scene.client)?;
    agent.kill9()?;
    assert_eq!(scene.answer()?, "two");
    agent.restart()?;
    until_state(&agent, "failing", 1)?;
    scene.until(&agent, &["two"])?;
    load.finish()?;
    let url = format!("http://{}/metrics", agent.http());
    let mut command = scene.world.command("curl", 5)?;
    command.args(["--silent", &url]);
    let metrics = String::from_utf8(mesh_tests::output(command)?.stdout)?;
    let labels = r#"{service="web",kind="dns",target="web.test"}"#;
    for line in [format!("mesh_source_ok{labels} 0"), format!("mesh_source_instances{labels} 1")] {
        ensure!(metrics.contains(&line), "no {line} in:\n{metrics}");
    }

    // One that remembers nothing and can't ask either takes what the kernel has.
    let load = Load::start(&scene.client)?;
    agent.kill9()?;
    let memory = scene.world.folder().join("admin.sock.discovered");
    fs::remove_file(&memory)?;
    agent.restart()?;
    until_state(&agent, "failing", 1)?;
    scene.until(&agent, &["two"])?;
    load.finish()?;
    ensure!(!memory.exists(), "what is only supposed isn't remembered");

    // And one that remembers nothing asks before it changes anything.
    let (_dnsmasq, _) = self::dnsmasq(&scene, &two, &[])?;
    until_state(&agent, "ok", 1)?;
    eventually("what it says to be kept", || fs::metadata(&memory).map(drop))?;
    let load = Load::start(&scene.client)?;
    agent.kill9()?;
    fs::remove_file(&memory)?;
    agent.restart()?;
    until_state(&agent, "ok", 1)?;
    load.finish()?;
    Ok(())
}

#[test]
fn srv_records_bring_port_weight_and_priority() -> Result<()> {
    let scene = Scene::new("disc-srv")?;
    let hosts = |one: usize| format!("{} one.test\n{} two.test\n", scene.ip(one), scene.ip(1));
    let (_dnsmasq, port) = dnsmasq(
        &scene,
        &hosts(1),
        &["--srv-host=_web._tcp.test,one.test,80,0,3", "--srv-host=_web._tcp.test,two.test,81,0,0"],
    )?;
    let source = format!(
        "dns: {{name: _web._tcp.test, type: SRV, server: '127.0.0.1:{port}', ttl: {{min: 200ms}}}}"
    );
    let agent = scene.agent("tcp", &source)?;
    let instances = || -> Result<BTreeSet<String>> {
        let endpoints = agent.json(["endpoints"])?;
        let all = endpoints.as_array().context("a list")?;
        Ok(all.iter().map(|e| format!("{} {}", e["address"], e["weight"])).collect())
    };
    let expected = |one: usize| -> BTreeSet<String> {
        [format!("\"{}:80\" 3", scene.ip(one)), format!("\"{}:81\" 1", scene.ip(1))].into()
    };
    eventually("both targets", || {
        let instances = instances()?;
        ensure!(instances == expected(1), "{instances:?}");
        Ok(())
    })?;
    rewrite(&scene, &hosts(0))?;
    eventually("the target to have moved", || {
        let instances = instances()?;
        ensure!(instances == expected(0), "{instances:?}");
        Ok(())
    })?;
    eventually("the first of them to answer", || match scene.answer()?.as_str() {
        "one" => Ok(()),
        other => anyhow::bail!("{other}"),
    })
}

/// nginx with a file, on the loopback address.
fn list_server(scene: &Scene) -> Result<(Process, u16)> {
    let port = scene.port(15_340);
    let folder = scene.world.folder().display();
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/list.pid;\n\
         error_log {folder}/list-error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log {folder}/list-access.log combined; root {folder};\n\
         client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n\
         fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         server {{ listen 127.0.0.1:{port}; }} }}\n"
    );
    let config = scene.file("list.conf", &config)?;
    let config = config.to_str().context("paths of a world are ASCII")?;
    let process = scene.start("nginx", &["-p", &folder.to_string(), "-c", config])?;
    Ok((process, port))
}

#[test]
fn a_list_of_nginx_is_followed_and_asked_for_only_where_it_changed() -> Result<()> {
    let scene = Scene::new("disc-http")?;
    let list = |numbers: &[usize]| {
        let targets: Vec<_> = numbers.iter().map(|&n| format!("\"{}:80\"", scene.ip(n))).collect();
        format!(
            "[{{\"targets\": [{}], \"labels\": {{\"__weight__\": \"2\", \"zone\": \"a\"}}}}]",
            targets.join(",")
        )
    };
    scene.file("sd.json", &list(&[0]))?;
    let (mut nginx, port) = list_server(&scene)?;
    let source = format!("http: {{url: 'http://127.0.0.1:{port}/sd.json', interval: 200ms}}");
    let agent = scene.agent("http", &source)?;
    scene.until(&agent, &["one"])?;
    let endpoint = agent.json(["endpoints"])?[0].take();
    ensure!(endpoint["weight"] == 2 && endpoint["locality"] == "?/?/a", "{endpoint}");
    eventually("an answer of 304", || {
        let log = fs::read_to_string(scene.world.folder().join("list-access.log"))?;
        ensure!(log.contains("\" 304 "), "{log}");
        Ok(())
    })?;
    scene.file("sd.json", &list(&[0, 1]))?;
    scene.until(&agent, &["one", "two"])?;
    scene.file("sd.json", "[{\"targets\": [\"web.example:80\"]}]")?;
    let source = until_state(&agent, "failing", 2)?;
    ensure!(source["lastError"].as_str().is_some_and(|e| e.contains("dns source")), "{source}");
    scene.until(&agent, &["one", "two"])?;
    nginx.signal(Signal::SIGTERM)?;
    nginx.wait()?;
    eventually("the closed port to be noticed", || {
        let source = until_state(&agent, "failing", 2)?;
        ensure!(source["lastError"].to_string().contains("can't connect"), "{source}");
        Ok(())
    })?;
    scene.until(&agent, &["one", "two"])
}

/// Answers as the file `mode` says: `list`, `garbage`, `empty`, `huge`, `hang`.
const LIAR: &str = r#"
import http.server, sys, time
port, folder, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mode = open(folder + "/mode").read()
        if mode == "hang":
            time.sleep(600)
        body = {"list": '[{"targets": ["%s"]}]' % target, "garbage": "\0\1<html>",
                "empty": "[]", "huge": "[" + " " * (10 << 20) + "]"}[mode].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"#;

#[test]
fn a_server_that_lies_or_hangs_hurts_nobody() -> Result<()> {
    let scene = Scene::new("disc-liar")?;
    scene.file("mode", "list")?;
    let port = scene.port(15_360);
    let folder = scene.world.folder().display().to_string();
    let target = format!("{}:80", scene.ip(0));
    let _liar = scene.start("python3", &["-c", LIAR, &port.to_string(), &folder, &target])?;
    let source = format!(
        "http: {{url: 'http://127.0.0.1:{port}/', interval: 200ms, timeout: 1s, emptyAfter: 3}}"
    );
    let agent = scene.agent("http", &source)?;
    scene.until(&agent, &["one"])?;
    for (mode, word) in
        [("garbage", "not of the form"), ("huge", "more than"), ("hang", "no whole answer from")]
    {
        scene.file("mode", mode)?;
        eventually(&format!("{mode} to be noticed"), || {
            let source = until_state(&agent, "failing", 1)?;
            ensure!(source["lastError"].to_string().contains(word), "{source}");
            Ok(())
        })?;
        assert_eq!(scene.answer()?, "one", "{mode}");
        scene.file("mode", "list")?;
        until_state(&agent, "ok", 1)?;
    }
    scene.file("mode", "empty")?;
    until_state(&agent, "empty", 0)?;
    scene.file("mode", "list")?;
    scene.until(&agent, &["one"])
}

/// `/v1/health/service/NAME` as Consul answers it, from the file `entries`;
/// a query with an index waits until the file is another one.
const CONSUL: &str = r#"
import http.server, os, sys, time, urllib.parse
port, folder = int(sys.argv[1]), sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        index = lambda: os.stat(folder + "/entries").st_mtime_ns // 1000
        end = time.monotonic() + 30
        while int(query.get("index", 0)) >= index() and time.monotonic() < end:
            time.sleep(0.02)
        print(self.path, flush=True)
        now, body = index(), open(folder + "/entries", "rb").read()
        self.send_response(200 if url.path == "/v1/health/service/web" else 404)
        self.send_header("x-consul-index", str(now))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"#;

#[test]
fn consul_and_dns_make_one_pool_and_changes_come_by_blocking_queries() -> Result<()> {
    let scene = Scene::new("disc-pool")?;
    let entries = |status: &str| {
        format!(
            "[{{\"Node\": {{\"Node\": \"n1\", \"Address\": \"{}\", \"Datacenter\": \"dc1\"}}, \
             \"Service\": {{\"Address\": \"\", \"Port\": 80, \"Weights\": {{\"Passing\": 1}}}}, \
             \"Checks\": [{{\"Status\": \"{status}\"}}]}}]",
            scene.ip(0)
        )
    };
    scene.file("entries", &entries("passing"))?;
    let port = scene.port(15_380);
    let folder = scene.world.folder().display().to_string();
    let mut consul = scene.start("python3", &["-c", CONSUL, &port.to_string(), &folder])?;
    let (_dnsmasq, dns_port) = dnsmasq(&scene, &format!("{} web.test\n", scene.ip(1)), &[])?;
    let dns = format!("dns: {{name: web.test, server: '127.0.0.1:{dns_port}'}}");
    // An answer by polling would come after a minute.
    let http = format!(
        "http: {{url: 'http://127.0.0.1:{port}/v1/health/service/web', format: consul, \
         interval: 1s, emptyAfter: 1}}"
    );
    let agent = scene.agent("http", &format!("{dns}, {http}"))?;
    scene.until(&agent, &["one", "two"])?;
    eventually("a blocking query", || {
        ensure!(consul.log().contains("passing=true"), "{}", consul.log());
        Ok(())
    })?;
    scene.file("entries", &entries("critical"))?;
    scene.until(&agent, &["two"])?;
    scene.file("entries", &entries("passing"))?;
    scene.until(&agent, &["one", "two"])?;
    ensure!(consul.log().contains("index="), "asked with an index: {}", consul.log());

    // A reload that adds a service disturbs nobody; the sources go on.
    let before = sources(&agent)?;
    let other = "  - {name: other, address: 10.96.0.21, ports: [{port: 80, protocol: tcp}]}\n";
    agent.reload(&format!("{}{other}", service("http", &format!("{dns}, {http}"))))?;
    for (before, after) in before.iter().zip(sources(&agent)?) {
        ensure!(after["answers"].as_u64() >= before["answers"].as_u64(), "{before} {after}");
    }
    consul.signal(Signal::SIGTERM)?;
    consul.wait()?;
    eventually("the death of consul to be noticed", || {
        let failing = sources(&agent)?.iter().filter(|s| s["state"] == "failing").count();
        ensure!(failing == 1, "{failing}");
        Ok(())
    })?;
    scene.until(&agent, &["one", "two"])
}
