//! The API server goes, comes back, forgets, refuses: traffic goes on, status
//! says so, and the agent catches up.
//!
//! `MESH_TESTS_LONG` in the environment makes it be gone for a minute, and has the
//! agent's token expire.

use std::{env, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Agent, Pod, World,
    cluster::{Cluster, until_answered_by, until_watch_is, watch_of},
    eventually,
    server::{Nginx, kubernetes::Fault},
};

/// On the kernel path.
const TCP: &str = "tcp-web";

struct Scene {
    client: Pod,
    servers: Vec<Nginx>,
    cluster: Cluster,
}

impl Scene {
    /// One service with one endpoint, and a pod more to come.
    fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::new(name)?;
        let world: &World = &cluster.world;
        let servers = ["one", "two"].map(|name| Nginx::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let scene = Self { client: world.client("client")?, servers, cluster };
        scene.cluster.service("web", 20, TCP)?;
        scene.endpoints(&["one"])?;
        Ok(scene)
    }

    fn endpoints(&self, names: &[&str]) -> Result<()> {
        let pods = self.servers.iter().map(|server| &server.pod);
        self.cluster.endpoints("web", TCP, pods.filter(|pod| names.contains(&&*pod.name)))
    }

    fn until(&self, agent: &Agent, names: &[&str]) -> Result<()> {
        until_answered_by(&self.client, "10.96.0.20", names, agent)
    }

    /// Every single request of many is answered.
    fn all_answered(&self, by: &str) -> Result<()> {
        let answers = self.client.curl(["-H", "Connection: close", "http://10.96.0.20/?[1-20]"])?;
        let good = answers.lines().filter(|line| *line == by).count();
        ensure!(good == 20, "{answers}");
        Ok(())
    }
}

#[test]
fn the_api_server_is_gone_for_a_while() -> Result<()> {
    let mut scene = Scene::new("kubegone")?;
    let mut agent = scene.cluster.agent()?;
    agent.wait_for(&scene.client)?;
    scene.until(&agent, &["one"])?;
    scene.cluster.kubernetes.go_away()?;
    let watch = until_watch_is(&agent, "endpointslices", "stale")?;
    ensure!(watch["objects"] == 1 && watch["lastError"].is_string(), "{watch}");
    scene.all_answered("one")?;
    if env::var_os("MESH_TESTS_LONG").is_some() {
        for _ in 0..60 {
            thread::sleep(Duration::from_secs(1));
            scene.all_answered("one")?;
        }
        println!("a minute without the API server: 1,200 requests, all answered");
    }

    // The agent ends meanwhile, as in a crash, and another one comes up: with
    // what the first one knew and wrote down.
    let memory = scene.cluster.world.folder().join("admin.sock.cluster");
    eventually("the agent to keep what it knows", || fs::read_to_string(&memory))?;
    agent.kill9()?;
    scene.all_answered("one")?;
    agent.restart()?;
    agent.wait_for(&scene.client)?;
    scene.all_answered("one")?;
    scene.until(&agent, &["one"])?;
    let watch = watch_of(&agent, "endpointslices")?;
    ensure!(watch["state"] == "stale" && watch["objects"] == 1, "{watch}");
    ensure!(watch["ageMs"].is_number(), "when it was heard is known too: {watch}");
    let host = "http://web.shop/";
    ensure!(scene.client.curl([host])?.trim() == "one", "its hostname is known too");

    scene.cluster.kubernetes.come_back()?;
    scene.endpoints(&["two"])?;
    until_watch_is(&agent, "endpointslices", "synced")?;
    scene.until(&agent, &["two"])
}

#[test]
fn what_changed_while_nobody_watched_is_caught_up() -> Result<()> {
    let scene = Scene::new("kubegap")?;
    let kubernetes = &scene.cluster.kubernetes;
    if !kubernetes.does("cut watches and forget the history") {
        return Ok(());
    }
    let agent = scene.cluster.agent()?;
    agent.wait_for(&scene.client)?;
    scene.until(&agent, &["one"])?;
    let lists = || {
        let seen = kubernetes.requests()?;
        let lists =
            seen.iter().filter(|seen| seen.verb == "list" && seen.resource == "endpointslices");
        Ok::<_, anyhow::Error>(lists.count())
    };
    let before = lists()?;
    // A watch that breaks goes on from where it was: nothing is listed again.
    kubernetes.cut_watches()?;
    scene.endpoints(&["two"])?;
    scene.until(&agent, &["two"])?;
    ensure!(lists()? == before, "{:?}", kubernetes.requests()?);
    // 410 Gone: what is to be followed is forgotten, so all is listed.
    kubernetes.expire()?;
    scene.endpoints(&["one"])?;
    scene.until(&agent, &["one"])?;
    ensure!(lists()? > before, "{:?}", kubernetes.requests()?);
    // And both at once, with a deletion in the gap that only a list can show.
    kubernetes.fault(Fault::answer(500, None))?;
    kubernetes.cut_watches()?;
    until_watch_is(&agent, "services", "stale")?;
    kubernetes.delete("services", "shop", "web")?;
    kubernetes.expire()?;
    kubernetes.heal()?;
    eventually("the service to go", || {
        let services = agent.json(["services"])?;
        ensure!(services.as_array().is_some_and(Vec::is_empty), "{services}");
        Ok(())
    })
}

#[test]
fn an_overloaded_api_server_is_left_alone_as_long_as_it_asks_for() -> Result<()> {
    let scene = Scene::new("kubebusy")?;
    let kubernetes = &scene.cluster.kubernetes;
    if !kubernetes.does("answer 429") {
        return Ok(());
    }
    let agent = scene.cluster.agent()?;
    agent.wait_for(&scene.client)?;
    scene.until(&agent, &["one"])?;
    kubernetes.fault(Fault::answer(429, Some(2)).on("watch", "endpointslices"))?;
    kubernetes.cut_watches()?;
    let tries = || {
        let seen = kubernetes.requests()?.into_iter();
        let tries = seen.filter(|seen| seen.verb == "watch" && seen.resource == "endpointslices");
        Ok::<_, anyhow::Error>(tries.map(|seen| seen.at).collect::<Vec<_>>())
    };
    let before = tries()?.len();
    eventually("two tries", || {
        let count = tries()?.len() - before;
        ensure!(count >= 2, "{count}");
        Ok(())
    })?;
    kubernetes.heal()?;
    let tries = tries()?;
    let pause = tries[before + 1] - tries[before];
    ensure!(pause >= Duration::from_millis(1_900), "asked again after {pause:?}");
    scene.endpoints(&["two"])?;
    scene.until(&agent, &["two"])
}

/// As a proxy between does that lets lists through and no watch.
#[test]
fn a_history_that_is_always_gone_is_not_listed_without_end() -> Result<()> {
    let scene = Scene::new("kubeloop")?;
    let kubernetes = &scene.cluster.kubernetes;
    if !kubernetes.does("answer 410") {
        return Ok(());
    }
    let agent = scene.cluster.agent()?;
    agent.wait_for(&scene.client)?;
    scene.until(&agent, &["one"])?;
    let lists = || {
        let seen = kubernetes.requests()?.into_iter();
        let lists = seen.filter(|seen| seen.verb == "list" && seen.resource == "endpointslices");
        Ok::<_, anyhow::Error>(lists.count())
    };
    let before = lists()?;
    kubernetes.fault(Fault::answer(410, None).on("watch", "endpointslices"))?;
    kubernetes.cut_watches()?;
    std::thread::sleep(Duration::from_secs(3));
    let more = lists()? - before;
    // Half a second, one, two: each more or less by chance.
    ensure!((1..=8).contains(&more), "{more} lists in three seconds");
    kubernetes.heal()?;
    scene.endpoints(&["two"])?;
    scene.until(&agent, &["two"])
}

#[test]
fn a_missing_right_is_named() -> Result<()> {
    let mut scene = Scene::new("kuberights")?;
    scene.cluster.kubernetes.deny("list", "endpointslices")?;
    let agent = scene.cluster.agent()?;
    agent.wait_for(&scene.client)?;
    let watch = until_watch_is(&agent, "endpointslices", "failing")?;
    let error = watch["lastError"].as_str().context("no error")?;
    for part in ["list", "endpointslices", "discovery.k8s.io", "ClusterRole"] {
        ensure!(error.contains(part), "{part} is missing in: {error}");
    }
    let degraded = agent.json(["status"])?["degraded"].to_string();
    ensure!(degraded.contains("endpointslices"), "{degraded}");
    // Everything else is there.
    ensure!(watch_of(&agent, "services")?["state"] == "synced", "{}", agent.ask(["status"])?);
    scene.cluster.kubernetes.permit_all()?;
    until_watch_is(&agent, "endpointslices", "synced")?;
    scene.until(&agent, &["one"])?;

    // A right that is lost later takes nothing out of service.
    scene.cluster.kubernetes.deny("watch", "endpointslices")?;
    scene.cluster.kubernetes.go_away()?;
    scene.cluster.kubernetes.come_back()?;
    eventually("status to name the right", || {
        let watch = watch_of(&agent, "endpointslices")?;
        let error = watch["lastError"].as_str().unwrap_or_default();
        ensure!(error.contains("watch") && error.contains("ClusterRole"), "{watch}");
        Ok(())
    })?;
    scene.all_answered("one")
}

#[test]
fn an_api_server_that_says_nothing_delays_no_start_for_long() -> Result<()> {
    let scene = Scene::new("kubesilent")?;
    let kubernetes = &scene.cluster.kubernetes;
    if !kubernetes.does("hang") {
        return Ok(());
    }
    kubernetes.fault(Fault::hang())?;
    // It is ready although nothing is known of the cluster.
    let agent = scene.cluster.agent()?;
    agent.wait_for(&scene.client)?;
    thread::sleep(Duration::from_millis(200));
    kubernetes.heal()?;
    scene.until(&agent, &["one"])
}

/// What was listed first is kept at once: a crash right after it loses nothing.
#[test]
fn an_agent_that_crashes_at_once_knows_the_cluster_even_so() -> Result<()> {
    let mut scene = Scene::new("kubecrash")?;
    let mut agent = scene.cluster.agent()?;
    let started = std::time::Instant::now();
    let memory = scene.cluster.world.folder().join("admin.sock.cluster");
    eventually("the agent to keep what it knows", || fs::read_to_string(&memory))?;
    println!("kept {:?} after the agent was ready", started.elapsed());
    agent.kill9()?;
    scene.cluster.kubernetes.go_away()?;
    agent.restart()?;
    agent.wait_for(&scene.client)?;
    scene.until(&agent, &["one"])?;
    let watch = watch_of(&agent, "endpointslices")?;
    ensure!(watch["state"] == "stale" && watch["objects"] == 1, "{watch}");
    Ok(())
}

/// With the ServiceAccount's files and the variables that every pod has.
#[test]
fn an_agent_in_a_pod_finds_its_api_server() -> Result<()> {
    let scene = Scene::new("kubeinpod")?;
    let agent = scene.cluster.agent_in_pod()?;
    agent.wait_for(&scene.client)?;
    scene.until(&agent, &["one"])?;
    if env::var_os("MESH_TESTS_LONG").is_none()
        || !scene.cluster.kubernetes.does("let a token expire")
    {
        return Ok(());
    }
    // kube-rs reads the file anew when what it read is older than 50 s.
    scene.cluster.kubernetes.change_token()?;
    scene.cluster.kubernetes.cut_watches()?;
    scene.endpoints(&["two"])?;
    mesh_tests::eventually_for(Duration::from_secs(90), "the new token to be used", || {
        scene.until(&agent, &["two"])
    })
}
