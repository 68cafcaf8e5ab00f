//! Two clouds of three instances: near ones first, and as they go one by one,
//! the shares follow Envoy's formula. On both paths.

use anyhow::{Result, bail, ensure};
use mesh_tests::{Agent, Load, Pod, World, answers, eventually, eventually_for, server::Fickle};

const NAMES: [&str; 6] = ["a1", "a2", "a3", "g1", "g2", "g3"];

/// All of a cloud may go, and is asked again soon.
const FAILOVER: &str = "timeout: {connect: 300ms}, failover: {maxEjected: 100%, base: 2s, max: 2s}, slowStart: {window: 1s}";

/// A service whose first three pods are in this node's cloud.
fn service(pods: &[&Pod], protocol: &str, path: &str, locality: &str) -> String {
    let instance = |pod: &&Pod| {
        let cloud = if pod.name.starts_with('a') { "aws" } else { "gcp" };
        format!("        - {{address: {}, port: 80, locality: {{cloud: {cloud}}}}}\n", pod.ip4)
    };
    let instances: String = pods.iter().map(instance).collect();
    format!(
        "  - name: web\n    address: 10.96.0.20\n    hostnames: [web]\n    \
         ports: [{{port: 80, protocol: {protocol}}}]\n    path: {path}\n    endpoints:\n      \
         static:\n{instances}    policy: {{locality: {locality}, {FAILOVER}}}\n"
    )
}

struct Scene {
    servers: Vec<Fickle>,
    client: Pod,
    agent: Agent,
    _world: World,
}

impl Scene {
    fn new(name: &str, protocol: &str, path: &str) -> Result<Self> {
        let world = World::new(name)?;
        let servers = NAMES.map(|name| Fickle::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let client = world.client("client")?;
        let pods: Vec<_> = servers.iter().map(|server| &server.pod).collect();
        let others = "dns: {enabled: true}\nlocality: {cloud: aws}\n";
        let agent = Agent::start_with(&world, others, &service(&pods, protocol, path, "{}"))?;
        agent.wait_for(&client)?;
        Ok(Self { servers, client, agent, _world: world })
    }

    fn pods(&self) -> Vec<&Pod> {
        self.servers.iter().map(|server| &server.pod).collect()
    }

    /// How many of 300 new connections this node's own cloud serves, in percent.
    fn local(&self) -> Result<f64> {
        let output = self.client.curl(["-H", "connection: close", "http://web/?[1-300]"])?;
        if output.lines().count() != 300 {
            bail!("{} of 300 answered", output.lines().count());
        }
        Ok(output.lines().filter(|name| name.starts_with('a')).count() as f64 / 3.0)
    }

    fn set(&self, command: &str, name: &str) -> Result<()> {
        let pods = self.pods();
        let pod = pods.iter().find(|pod| pod.name == name).expect("one of ours");
        self.agent.ask([command, "web", &format!("{}:80", pod.ip4)]).map(drop)
    }
}

/// Local ones are drained one by one: 140 % of what is left of three, then the
/// other cloud alone; and all return.
fn follows_the_formula(name: &str, protocol: &str, path: &str) -> Result<()> {
    let scene = Scene::new(name, protocol, path)?;
    let near = |due: f64| -> Result<()> {
        let local = scene.local()?;
        assert!((local - due).abs() < 1.5, "{local} % stayed local, due were {due} %");
        Ok(())
    };
    near(100.0)?;
    for (drained, due) in ["a1", "a2", "a3"].into_iter().zip([93.3, 46.7, 0.0]) {
        scene.set("drain", drained)?;
        near(due)?;
    }
    let services = scene.agent.json(["services"])?;
    assert_eq!(services[0]["ports"][0]["panic"], false, "drained isn't failing: {services}");
    for back in ["a1", "a2", "a3"] {
        scene.set("undrain", back)?;
    }
    near(100.0)
}

#[test]
fn shares_follow_the_formula_on_the_proxy_path() -> Result<()> {
    follows_the_formula("tiersproxy", "http", "proxy")
}

#[test]
fn shares_follow_the_formula_on_the_kernel_path() -> Result<()> {
    follows_the_formula("tierskernel", "tcp", "kernel")
}

/// What stays local when one after the other dies: each is found out by requests
/// that fail, leaves, and returns by a probe.
fn follows_the_formula_as_they_die(name: &str, protocol: &str, path: &str) -> Result<()> {
    let mut scene = Scene::new(name, protocol, path)?;
    let load = Load::connecting(&scene.client, "10.96.0.20", 2)?;
    let near = |due: f64| {
        let what = format!("{due} % to stay local");
        eventually_for(std::time::Duration::from_secs(30), &what, || -> Result<()> {
            let from = load.seen().len();
            load.wait("300 requests", from, |seen| seen.len() >= 300)?;
            let seen = load.since(from);
            let counts = answers(&seen);
            let all: usize = counts.values().sum();
            let local = counts.iter().filter(|(name, _)| name.starts_with('a'));
            let local = 100.0 * local.map(|(_, n)| n).sum::<usize>() as f64 / all as f64;
            // Dead ones are probed now and then.
            ensure!(all * 100 >= seen.len() * 98, "{} of {} answered", all, seen.len());
            ensure!((local - due).abs() < 2.5, "{local} %: {counts:?}");
            eprintln!("{path} path: {local:.1} % stayed local, due were {due} %");
            Ok(())
        })
    };
    near(100.0)?;
    for (victim, due) in [93.3, 46.7, 0.0].into_iter().enumerate() {
        scene.servers[victim].process.kill9()?;
        near(due)?;
    }
    let services = scene.agent.json(["services"])?;
    ensure!(services[0]["ports"][0]["panic"] == false, "the other cloud is well: {services}");
    for server in &mut scene.servers[..3] {
        server.restart()?;
    }
    near(100.0)?;
    let from = load.seen().len();
    eventually("all three to serve again", || {
        let seen = load.since(from);
        let counts = answers(&seen);
        let back = NAMES[..3].iter().all(|name| counts.get(name) >= Some(&20));
        if back { Ok(()) } else { Err(format!("{counts:?}")) }
    })?;
    let last = load.since(from);
    let failed: Vec<_> = last.iter().filter(|one| one.failed()).collect();
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

#[test]
fn shares_follow_the_formula_as_instances_die_on_the_proxy_path() -> Result<()> {
    follows_the_formula_as_they_die("tiersdieproxy", "http", "proxy")
}

#[test]
fn shares_follow_the_formula_as_instances_die_on_the_kernel_path() -> Result<()> {
    follows_the_formula_as_they_die("tiersdiekernel", "tcp", "kernel")
}

#[test]
fn modes_and_removal_by_reload() -> Result<()> {
    let scene = Scene::new("tiermodes", "http", "proxy")?;
    let pods = scene.pods();
    let put = |pods: &[&Pod], locality: &str| {
        scene.agent.reload(&service(pods, "http", "proxy", locality))
    };
    put(&pods, "{mode: off}")?;
    assert_eq!(scene.local()?, 50.0);
    put(&pods, "{mode: prefer}")?;
    scene.set("drain", "a1")?;
    scene.set("drain", "a2")?;
    assert_eq!(scene.local()?, 100.0, "one of three is enough");
    scene.set("drain", "a3")?;
    assert_eq!(scene.local()?, 0.0);
    put(&pods, "{mode: strict}")?;
    let refused = scene.client.curl(["-s", "-o", "/dev/null", "-w", "%{http_code}", "http://web/"]);
    assert!(matches!(refused.as_deref(), Ok("503") | Err(_)), "{refused:?}");
    for back in ["a1", "a2", "a3"] {
        scene.set("undrain", back)?;
    }
    assert_eq!(scene.local()?, 100.0);
    // What is no longer in the file doesn't count for the size of its tier.
    put(&pods[1..], "{}")?;
    assert_eq!(scene.local()?, 100.0);
    put(&pods[3..], "{}")?;
    assert_eq!(scene.local()?, 0.0);
    put(&pods, "{}")?;
    assert_eq!(scene.local()?, 100.0);
    let explained = scene.agent.json(["explain", "web:80"])?;
    assert_eq!(explained["candidates"][5]["tier"], 1);
    assert_eq!(
        explained["candidates"][5]["why"],
        "out: tier 1 gets nothing, nearer ones carry all"
    );
    Ok(())
}
