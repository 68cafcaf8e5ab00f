//! Routes that mirror requests: copies arrive whole, their answers are thrown
//! away, and nothing that becomes of them touches the request.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, World, eventually, example, server::Nginx, server::wait_for_port};
use nix::sys::signal::Signal;

/// `web` with its routes, and `shadow` that gets the copies.
fn services(web: &Pod, shadow: &Pod, routes: &str, policy: &str) -> String {
    let (web, shadow) = (web.ip4, shadow.ip4);
    format!(
        "  - name: web
    address: 10.96.0.20
    ports: [{{port: 80, protocol: http}}]
    endpoints: {{static: [{{address: {web}, port: 80}}]}}
    routes: {routes}
  - name: shadow
    address: 10.96.0.21
    ports: [{{port: 80, protocol: http}}]
    endpoints: {{static: [{{address: {shadow}, port: 80}}]}}
    policy: {policy}
"
    )
}

struct Scene {
    client: Pod,
    web: Nginx,
    shadow: Nginx,
    agent: Agent,
    _world: World,
}

const ALL: &str = "[{filters: {mirror: [{service: shadow}]}}]";

impl Scene {
    fn new(name: &str, routes: &str, policy: &str) -> Result<Self> {
        let world = World::new(name)?;
        let web = Nginx::start(&world.backend("web")?)?;
        let shadow = Nginx::start(&world.backend("shadow")?)?;
        let client = world.client("client")?;
        let agent = Agent::start(&world, &services(&web.pod, &shadow.pod, routes, policy))?;
        agent.wait_for(&client)?;
        Ok(Self { client, web, shadow, agent, _world: world })
    }

    /// The value of a metric of `shadow`, whose labels begin so.
    fn metric(&self, name: &str) -> Result<u64> {
        metric(&self.agent, name)
    }

    fn until_ended(&self, result: &str, count: u64) -> Result<()> {
        let metric = format!(
            "mesh_mirrored_requests_total{{service=\"shadow\",port=\"80\",result=\"{result}\"}}"
        );
        eventually(&format!("{count} copies to be {result}"), || {
            let ended = self.metric(&metric)?;
            ensure!(ended == count, "{ended}\n{}", self.agent.log());
            Ok(())
        })?;
        eventually("none to be left", || {
            let now = self.under_way()?;
            ensure!(now == 0, "{now}");
            Ok(())
        })
    }

    fn under_way(&self) -> Result<u64> {
        self.metric("mesh_mirrored_requests{service=\"shadow\",port=\"80\"}")
    }

    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?.parse()?)
    }
}

fn metric(agent: &Agent, name: &str) -> Result<u64> {
    let url = format!("http://{}/metrics", agent.http());
    let mut command = std::process::Command::new("curl");
    command.args(["-sSf", "--max-time", "10", &url]);
    let page = mesh_tests::text(command)?;
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no {name} in {page}"))?;
    Ok(line.trim().parse::<f64>()? as u64)
}

/// Request line, referer and user agent of each request, once there are
/// `count`; without the agent's question whether HTTP/2 is spoken.
fn log(server: &Nginx, count: usize) -> Result<Vec<String>> {
    let path = server.pod.folder.join("access.log");
    eventually(&format!("{count} requests at {}", server.pod.name), || {
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().map(|line| {
            let quoted: Vec<_> = line.split('"').skip(1).step_by(2).collect();
            quoted.join(" ")
        });
        let lines: Vec<_> = lines.filter(|line| !line.starts_with("PRI ")).collect();
        ensure!(lines.len() >= count, "{text}");
        Ok(lines)
    })
}

#[test]
fn copies_arrive_as_the_route_made_the_request() -> Result<()> {
    let routes = "
      - matches: [{path: {prefix: /old}}]
        filters:
          requestHeaders: {set: {referer: route, user-agent: of-the-route}}
          rewrite: {prefix: /files}
          mirror: [{service: shadow}, {service: shadow, percent: 0}]
        backends: [{filters: {
          requestHeaders: {set: {user-agent: of-the-backend}},
          responseHeaders: {set: {x-by: backend}},
          mirror: [{service: shadow, fraction: {numerator: 1, denominator: 1}}]}}]
      - matches: [{path: {exact: /moved}}]
        backends: [{filters: {redirect: {path: /here}}}]";
    let scene = Scene::new("mirror", routes, "{}")?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let url = "http://10.96.0.20/old/a?b=c";
        let answer = scene.client.run("curl", ["-si", version, url])?;
        ensure!(answer.contains("404") && answer.contains("x-by: backend"), "{answer}");
        let to = "%{http_code} %{redirect_url}";
        let moved = scene
            .client
            .run("curl", ["-s", version, "-w", to, "-o", "/dev/null", "http://10.96.0.20/moved"])?;
        ensure!(moved == "302 http://10.96.0.20/here", "{moved}");
    }
    let request = "GET /files/a?b=c HTTP/1.1 route";
    let wanted = |name: &str| format!("{request} {name}");
    ensure!(log(&scene.web, 2)? == [wanted("of-the-backend"), wanted("of-the-backend")]);
    scene.until_ended("answered", 4)?;
    let mut seen = log(&scene.shadow, 4)?;
    seen.sort();
    let [route, backend] = ["of-the-route", "of-the-backend"].map(wanted);
    ensure!(seen == [&backend, &backend, &route, &route].map(Clone::clone), "{seen:?}");
    let explained = scene.agent.ask(["explain", "10.96.0.20:80"])?;
    for words in
        ["mirrored to shadow\n", "mirrored to shadow, 0 % of the requests", "x-by: backend set"]
    {
        ensure!(explained.contains(words), "{words}: {explained}");
    }
    // Their health and budget are those of `shadow`.
    let picks = |service: &str| -> Result<u64> {
        let endpoints = scene.agent.json(["endpoints", service])?;
        endpoints[0]["picks"].as_u64().context("no picks")
    };
    ensure!((picks("web")?, picks("shadow")?) == (2, 4));
    Ok(())
}

#[test]
fn bodies_arrive_whole() -> Result<()> {
    let scene = Scene::new("mirrorbody", ALL, "{}")?;
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let large = scene.client.file("large", &content)?;
    let middle = scene.client.file("middle", &content[..500_000])?;
    let (large, middle) = (large.display(), middle.display());
    // Known lengths and chunks; what streams longer than a mirror may be behind.
    let uploads = [
        format!("curl -sSf --http1.1 -T {middle} http://10.96.0.20/files/0"),
        format!("cat {middle} | curl -sSf --http1.1 -T - http://10.96.0.20/files/1"),
        format!("curl -sSf --http2-prior-knowledge -T {middle} http://10.96.0.20/files/2"),
        format!("cat {middle} | curl -sSf --http2-prior-knowledge -T - http://10.96.0.20/files/3"),
        format!("curl -sSf --limit-rate 3M --http1.1 -T {large} http://10.96.0.20/files/4"),
        format!(
            "curl -sSf --limit-rate 3M --http2-prior-knowledge -T {large} http://10.96.0.20/files/5"
        ),
    ];
    for (index, upload) in uploads.iter().enumerate() {
        scene.client.shell(upload)?;
        let wanted = match index {
            0..=3 => &content[..500_000],
            _ => &content[..],
        };
        ensure!(scene.web.stored(&index.to_string())? == wanted, "{upload}");
        eventually(&format!("the copy of {upload}"), || {
            let copy = scene.shadow.stored(&index.to_string())?;
            ensure!(copy == wanted, "{} bytes", copy.len());
            Ok(())
        })?;
    }
    scene.until_ended("answered", uploads.len() as u64)?;
    // A client that breaks off: no copy takes the half for the whole.
    let half = format!(
        "timeout 1 curl -s --limit-rate 100K -T {large} http://10.96.0.20/files/half; true"
    );
    scene.client.shell(&half)?;
    scene.until_ended("broken", 1)?;
    ensure!(scene.shadow.stored("half").is_err(), "the half is stored");
    Ok(())
}

#[test]
fn every_request_of_many_is_copied_and_answered_once() -> Result<()> {
    let routes = "[{filters: {mirror: [{service: shadow}, {service: shadow, percent: 10}]}}]";
    let scene = Scene::new("mirrorload", routes, "{}")?;
    for version in ["--h1", "-m10"] {
        let load = ["-n1000", "-c4", version, "http://10.96.0.20/"];
        let report = scene.client.run("h2load", load)?;
        ensure!(report.contains("1000 succeeded"), "{report}");
    }
    let answered =
        "mesh_mirrored_requests_total{service=\"shadow\",port=\"80\",result=\"answered\"}";
    let copies = eventually("all copies to be answered", || {
        let copies = scene.metric(answered)?;
        ensure!(copies >= 2000 && scene.under_way()? == 0, "{copies}");
        Ok(copies)
    })?;
    // 2,000 of the first, and of the second 200, within five deviations.
    ensure!((2133..=2267).contains(&copies), "{copies}");
    ensure!(log(&scene.web, 2000)?.len() == 2000);
    ensure!(log(&scene.shadow, copies as usize)?.len() == copies as usize);
    Ok(())
}

/// One that takes connections and nothing more.
#[test]
fn a_mirror_that_hangs_holds_nothing_up() -> Result<()> {
    let scene = Scene::new("mirrorhang", ALL, "{timeout: {request: 3s}}")?;
    scene.client.curl(["http://10.96.0.20/"])?;
    scene.until_ended("answered", 1)?;
    scene.shadow.process.signal(Signal::SIGSTOP)?;
    let before = scene.memory()?;
    let started = Instant::now();
    // More than may be under way, and more bytes than may be kept.
    let report = scene.client.run("h2load", ["-n600", "-c4", "-m25", "http://10.96.0.20/"])?;
    ensure!(report.contains("600 succeeded"), "{report}");
    ensure!(scene.under_way()? <= 256);
    let full = "mesh_mirrored_requests_total{service=\"shadow\",port=\"80\",result=\"full\"}";
    ensure!(scene.metric(full)? >= 600 - 256 || started.elapsed() > Duration::from_secs(3));
    eventually("the hanging ones to be given up", || {
        let now = scene.under_way()?;
        ensure!(now == 0, "{now}");
        Ok(())
    })?;
    for index in 0..4 {
        let url = format!("http://10.96.0.20/files/{index}");
        scene.client.shell(&format!("head -c 64M /dev/zero | curl -sSf -T - {url}"))?;
    }
    for index in 0..4 {
        ensure!(scene.web.stored(&index.to_string())?.len() == 64 << 20, "{index}");
    }
    scene.until_ended("behind", 4)?;
    let grown = scene.memory()?.saturating_sub(before);
    ensure!(grown < 64 * 1024, "{grown} KiB more");
    // Its failures are its own.
    ensure!(metric(&scene.agent, "mesh_errors_total{service=\"web\",port=\"80\"}")? == 0);
    let endpoints = scene.agent.json(["endpoints", "web"])?;
    ensure!(endpoints[0]["state"] == "available" && endpoints[0]["inFlight"] == 0, "{endpoints}");
    Ok(())
}

#[test]
fn a_dead_mirror_is_nobodys_loss_and_the_agent_stops_with_a_hanging_one() -> Result<()> {
    let mut scene = Scene::new("mirrordead", ALL, "{failover: {ejection: false}}")?;
    scene.shadow.process.kill9()?;
    let answers = scene.client.curl(["http://10.96.0.20/?[1-100]"])?;
    ensure!(answers == "web\n".repeat(100), "{answers}");
    scene.until_ended("failed", 100)?;
    let connections = scene.agent.json(["connections"])?;
    ensure!(!connections.to_string().contains(&scene.shadow.pod.ip4.to_string()), "{connections}");
    // A conversation isn't mirrored.
    let upgrade = ["-H", "connection: upgrade", "-H", "upgrade: websocket", "http://10.96.0.20/"];
    ensure!(scene.client.curl(upgrade)? == "web\n");
    scene.until_ended("failed", 100)?;

    scene.shadow = Nginx::start(&scene.shadow.pod)?;
    scene.shadow.process.signal(Signal::SIGSTOP)?;
    scene.client.curl(["http://10.96.0.20/"])?;
    eventually("a copy to hang", || {
        let now = scene.under_way()?;
        ensure!(now == 1, "{now}");
        Ok(())
    })?;
    let started = Instant::now();
    scene.agent.stop()?;
    ensure!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    Ok(())
}

#[test]
fn calls_of_grpc_are_mirrored() -> Result<()> {
    let peer = example("grpc")?.to_str().context("the path of this program")?.to_owned();
    let world = World::new("mirrorgrpc")?;
    let pods = [world.backend("one")?, world.backend("two")?];
    let mut servers = Vec::new();
    for pod in &pods {
        servers.push(pod.spawn(&peer, ["server", &pod.name, "50051"])?);
        wait_for_port(pod, 50051)?;
    }
    let client = world.client("client")?;
    let services = services(&pods[0], &pods[1], ALL, "{timeout: {request: 5s}}")
        .replace("protocol: http", "protocol: grpc")
        .replace("port: 80}]}", "port: 50051}]}");
    let agent = Agent::start(&world, &services)?;
    agent.wait_for(&client)?;
    let printed = client.run(&peer, ["check", "10.96.0.20:80", "", "200", "20"])?;
    ensure!(printed.trim() == "200 one", "{printed}");
    let answered =
        "mesh_mirrored_requests_total{service=\"shadow\",port=\"80\",result=\"answered\"}";
    eventually("all calls to be mirrored", || {
        let copies = metric(&agent, answered)?;
        ensure!(copies == 200, "{copies}\n{}", agent.log());
        Ok(())
    })?;
    // A stream, whose copy has no end of its own.
    let printed = client.run(&peer, ["watch", "10.96.0.20:80", "flip", "4"])?;
    ensure!(printed.lines().count() == 4, "{printed}");
    Ok(())
}
