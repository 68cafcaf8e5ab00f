//! What the algorithms promise, on the proxy path, with real servers: the shares
//! of weights, the choice of two, keys that stick, and session affinity.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use mesh_tests::{
    Agent, Pod, World, eventually, eventually_for,
    server::{Fickle, Mood},
};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// An HTTP service on the proxy path with these instances, one of each pod.
fn service<'a>(instances: impl IntoIterator<Item = (&'a Pod, u32)>, policy: &str) -> String {
    let instances: String = instances
        .into_iter()
        .map(|(pod, weight)| {
            format!("        - {{address: {}, port: 80, weight: {weight}}}\n", pod.ip4)
        })
        .collect();
    format!(
        "  - name: web\n    address: 10.96.0.20\n    hostnames: [web]\n    \
         ports: [{{port: 80, protocol: http}}]\n    endpoints:\n      static:\n{instances}    \
         policy: {policy}\n"
    )
}

/// How often each instance answered.
fn answers(output: &str) -> BTreeMap<&str, usize> {
    output.lines().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    })
}

/// Three servers, a client, and an agent that balances so.
struct Scene {
    servers: Vec<Fickle>,
    client: Pod,
    agent: Agent,
    // Last: the others live in it.
    _world: World,
}

impl Scene {
    fn new(name: &str, weights: [u32; 3], policy: &str) -> Result<Self> {
        let world = World::new(name)?;
        let servers = NAMES.map(|name| Fickle::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let client = world.client("client")?;
        let instances = servers.iter().map(|server| &server.pod).zip(weights);
        let agent = Agent::start(&world, &service(instances, policy))?;
        agent.wait_for(&client)?;
        Ok(Self { servers, client, agent, _world: world })
    }

    /// Picks so far, by the name of the instance.
    fn picks(&self) -> Result<BTreeMap<&str, u64>> {
        let endpoints = self.agent.json(["endpoints", "web"])?;
        let picks = |server: &Fickle| {
            let address = format!("{}:80", server.pod.ip4);
            let mut all = endpoints.as_array().into_iter().flatten();
            let view = all.find(|view| view["address"] == address.as_str());
            view.and_then(|view| view["picks"].as_u64()).unwrap_or(0)
        };
        Ok(NAMES.into_iter().zip(self.servers.iter().map(picks)).collect())
    }
}

#[test]
fn weights_share_exactly_in_turn() -> Result<()> {
    let scene = Scene::new("weights", [3, 1, 0], "{loadBalancer: {algorithm: weighted}}")?;
    let output = scene.client.curl(["http://web/?[1-400]"])?;
    assert_eq!(answers(&output), BTreeMap::from([("one", 300), ("two", 100)]));
    let explained = scene.agent.json(["explain", "web:80"])?;
    let shares: Vec<_> =
        explained["candidates"].as_array().into_iter().flatten().map(|one| &one["share"]).collect();
    assert_eq!(shares, [75.0, 25.0, 0.0]);
    assert_eq!(explained["candidates"][2]["why"], "out: weight 0");
    Ok(())
}

#[test]
fn least_connections_avoids_a_busy_instance() -> Result<()> {
    let scene = Scene::new("least", [1; 3], "{loadBalancer: {algorithm: leastConnections}}")?;
    // Requests to the first one take for ever, as far as the others can tell.
    scene.servers[0].be(Mood { delay: Duration::from_secs(30), ..Mood::default() })?;
    let mut stuck = Vec::new();
    eventually("a request to be under way at the slow one", || {
        stuck.push(scene.client.spawn("curl", ["-s", "http://web/"])?);
        let endpoints = scene.agent.json(["endpoints", "web"])?;
        let busy = endpoints[0]["inFlight"].as_u64();
        if busy >= Some(1) { Ok(()) } else { bail!("{endpoints}") }
    })?;
    let output = scene.client.curl(["http://web/?[1-200]"])?;
    let counts = answers(&output);
    assert_eq!(counts.values().sum::<usize>(), 200);
    assert_eq!(counts.get("one"), None, "{counts:?}");
    Ok(())
}

/// The issue's own words: slowed by 20 ms it gets under a tenth of the picks
/// within 2 s, and is back to normal after it recovers.
#[test]
fn least_response_time_leaves_a_slow_instance_and_returns() -> Result<()> {
    let policy = "{loadBalancer: {algorithm: leastResponseTime}}";
    let scene = Scene::new("slow", [1; 3], policy)?;
    let normal = Mood { delay: Duration::from_millis(10), ..Mood::default() };
    for server in &scene.servers {
        server.be(normal)?;
    }
    let _load = scene.client.spawn("bash", ["-c", LOAD])?;
    let share = |name: &str| -> Result<f64> {
        let before = scene.picks()?;
        std::thread::park_timeout(Duration::from_millis(500));
        let after = scene.picks()?;
        let made = |name: &str| (after[name] - before[name]) as f64;
        let all: f64 = NAMES.iter().map(|name| made(name)).sum();
        ensure!(all >= 20.0, "only {all} picks in half a second");
        Ok(made(name) / all)
    };
    eventually("all three to be used", || match share("one")? {
        share if share > 0.15 => Ok(()),
        share => bail!("share {share}"),
    })?;
    scene.servers[0].be(Mood { delay: Duration::from_millis(30), ..Mood::default() })?;
    eventually_for(
        Duration::from_secs(4),
        "the slow one to get less than a tenth",
        || match share("one")? {
            share if share < 0.1 => Ok(()),
            share => bail!("share {share}"),
        },
    )?;
    scene.servers[0].be(normal)?;
    // It was three times as slow: forgotten after 10 s · ln 3.
    eventually_for(Duration::from_secs(60), "the recovered one to get its part", || {
        match share("one")? {
            share if share > 0.2 => Ok(()),
            share => bail!("share {share}"),
        }
    })
}

/// Two clients without a pause.
const LOAD: &str = "for n in 1 2; do \
    while :; do curl -s -o /dev/null 'http://web/?[1-200]'; done & done; wait";

#[test]
fn a_header_sticks_to_its_instance_and_moves_when_that_is_gone() -> Result<()> {
    let policy = "{loadBalancer: {algorithm: consistentHash, hashOn: 'header:x-user'}}";
    let scene = Scene::new("hash", [1; 3], policy)?;
    let owner = |user: usize| -> Result<String> {
        let header = format!("x-user: user-{user}");
        let output = scene.client.curl(["-H", &header, "http://web/?[1-5]"])?;
        let counts = answers(&output);
        ensure!(counts.len() == 1, "{header}: {counts:?}");
        Ok(output.lines().next().unwrap_or_default().to_owned())
    };
    let owners = (0..20).map(owner).collect::<Result<Vec<_>>>()?;
    let used: std::collections::BTreeSet<_> = owners.iter().collect();
    assert_eq!(used.len(), 3, "{owners:?}");
    let gone = &scene.servers[0].pod;
    scene.agent.ask(["drain", "web", &format!("{}:80", gone.ip4)])?;
    for (user, before) in owners.iter().enumerate() {
        let now = owner(user)?;
        match before == &gone.name {
            true => assert_ne!(now, gone.name),
            false => assert_eq!(&now, before, "user {user} had no reason to move"),
        }
    }
    scene.agent.ask(["undrain", "web", &format!("{}:80", gone.ip4)])?;
    assert_eq!((0..20).map(owner).collect::<Result<Vec<_>>>()?, owners);
    Ok(())
}

#[test]
fn a_client_with_affinity_keeps_its_instance() -> Result<()> {
    let policy = "{loadBalancer: {algorithm: random}, sessionAffinity: {clientIP: {timeout: 1h}}}";
    let scene = Scene::new("affinity", [1; 3], policy)?;
    let output = scene.client.curl(["-H", "connection: close", "http://web/?[1-30]"])?;
    let counts = answers(&output);
    assert_eq!(counts.len(), 1, "{counts:?}");
    let (kept, _) = counts.first_key_value().expect("one instance answered");
    let pod = &scene.servers[NAMES.iter().position(|name| name == kept).expect("one of ours")].pod;
    scene.agent.ask(["drain", "web", &format!("{}:80", pod.ip4)])?;
    let output = scene.client.curl(["http://web/?[1-30]"])?;
    let moved = answers(&output);
    assert!(moved.len() == 1 && !moved.contains_key(kept), "from {kept} to {moved:?}");
    Ok(())
}
