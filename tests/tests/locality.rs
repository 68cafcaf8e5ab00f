//! Two clouds of three instances: near ones first, and as they go one by one,
//! the shares follow Envoy's formula. On both paths.

use anyhow::{Result, bail};
use mesh_tests::{Agent, Pod, World, server::Fickle};

const NAMES: [&str; 6] = ["a1", "a2", "a3", "g1", "g2", "g3"];

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
         static:\n{instances}    policy: {{locality: {locality}}}\n"
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
