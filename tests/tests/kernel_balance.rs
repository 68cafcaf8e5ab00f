//! The kernel picks: what each algorithm promises, seen from a pod.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::{Pod, Service, Trio, eventually_for, server::Mood};

fn scene(name: &str, policy: &str) -> Result<Trio> {
    Trio::new(name, ("tcp", "kernel"), policy)
}

fn with(service: &Service, policy: &str) -> String {
    service.under(&format!("{{{policy}}}"))
}

/// Holds connections open to whoever it gets, until it is dropped.
const HOLD: &str = r#"
import socket, sys, time
held = []
while len(held) < 20:
    connection = socket.create_connection((sys.argv[1], 80), 5)
    held.append(connection)
print("held", flush=True)
time.sleep(600)
"#;

#[test]
fn least_connections_avoids_the_busy() -> Result<()> {
    let scene = scene("klc", "loadBalancer: {algorithm: leastConnections}")?;
    // All to one of them, straight to its address: none is there to compare.
    let only =
        Service { instances: scene.service.instances[..2].to_vec(), ..scene.service.clone() };
    let policy = "loadBalancer: {algorithm: leastConnections}";
    scene.agent.reload(&with(&only, policy))?;
    let address = scene.service.ip4().to_string();
    let held = scene.client.spawn("python3", ["-c", HOLD, &address])?;
    eventually_for(Duration::from_secs(20), "20 connections to be open", || {
        if held.log().contains("held") { Ok(()) } else { Err(held.log()) }
    })?;
    scene.agent.reload(&with(&scene.service, policy))?;
    let counts = scene.ask(&scene.client, 100)?;
    assert!(counts.get("one").copied().unwrap_or(0) <= 2, "{counts:?}");
    let fair = |name: &str| counts.get(name).copied().unwrap_or(0) >= 25;
    assert!(fair("two") && fair("three"), "{counts:?}");
    // As they close, it is as good as the others again.
    drop(held);
    eventually_for(Duration::from_secs(20), "one to get its share again", || {
        let share = scene.share("one", 60)?;
        ensure!(share >= 15, "{share} %");
        Ok(())
    })
}

#[test]
fn shares_follow_the_algorithm() -> Result<()> {
    let scene = scene("kshares", "loadBalancer: {algorithm: random}")?;
    let expect = |shares: [f64; 3]| -> Result<()> {
        const N: usize = 1200;
        let counts = scene.ask(&scene.client, N)?;
        let of = |name: &str| counts.get(name).copied().unwrap_or(0) as f64;
        let squares = ["one", "two", "three"].into_iter().zip(shares).map(|(name, share)| {
            let due = share * N as f64;
            (of(name) - due).powi(2) / due
        });
        // Two degrees of freedom: chance alone comes to this once in 10,000 runs.
        let chi_square: f64 = squares.sum();
        ensure!(chi_square < 18.4, "χ² {chi_square:.1}: {counts:?}");
        eprintln!("{shares:?}: {counts:?}, χ² {chi_square:.2}");
        Ok(())
    };
    expect([1.0 / 3.0; 3])?;
    // The client connects by IPv4: every second instance is of that family.
    let weighted = |algorithm: &str| -> Result<()> {
        let mut yaml = with(&scene.service, &format!("loadBalancer: {{algorithm: {algorithm}}}"));
        for (server, weight) in scene.servers.iter().zip([5, 3, 2]) {
            for address in server.pod.ips() {
                let plain = format!("address: \"{address}\", port: 80");
                yaml = yaml.replace(&plain, &format!("{plain}, weight: {weight}"));
            }
        }
        scene.agent.reload(&yaml).map(drop)
    };
    weighted("random")?;
    expect([0.5, 0.3, 0.2])?;
    weighted("weighted")?;
    expect([0.5, 0.3, 0.2])
}

#[test]
fn a_newcomer_is_no_faster_than_its_peers_and_starts_slowly() -> Result<()> {
    let policy = "loadBalancer: {algorithm: leastResponseTime}, slowStart: {window: 5m}";
    let scene = scene("knew", policy)?;
    let fewer =
        Service { instances: scene.service.instances[..4].to_vec(), ..scene.service.clone() };
    scene.agent.reload(&with(&fewer, policy))?;
    // All answer after 20 ms: none would look like the fastest.
    for server in &scene.servers {
        server.be(Mood { delay: Duration::from_millis(20), ..Mood::default() })?;
    }
    scene.ask(&scene.client, 40)?;
    // It was there before, for a moment: now it comes as one that is new.
    scene.agent.reload(&with(&scene.service, policy))?;
    let endpoints = scene.agent.json(["endpoints", "web"])?;
    let new = scene.servers[2].pod.ip4.to_string();
    let new = endpoints.as_array().into_iter().flatten().find(|endpoint| {
        endpoint["address"].as_str().is_some_and(|address| address.starts_with(&new))
    });
    let time = new.and_then(|new| new["responseTimeUs"].as_u64()).unwrap_or(0);
    ensure!((10_000..500_000).contains(&time), "{new:?}");
    // A tenth of its turns at first.
    let share = scene.share("three", 100)?;
    ensure!(share < 20, "{share} %");
    Ok(())
}

#[test]
fn a_pod_sticks_to_its_hash() -> Result<()> {
    let policy = "loadBalancer: {algorithm: consistentHash}";
    let scene = scene("khash", policy)?;
    let mut pods = vec![scene.client.clone()];
    for n in 0..5 {
        pods.push(scene.world.client(&format!("c{n}"))?);
    }
    for pod in &pods {
        scene.agent.wait_for(pod)?;
    }
    let owner = |pod: &Pod| -> Result<String> {
        eventually_for(Duration::from_secs(10), "a pod's address to be known", || {
            let counts = scene.ask(pod, 5)?;
            ensure!(counts.len() == 1, "{}: {counts:?}", pod.name);
            Ok(counts.into_keys().next().unwrap_or_default())
        })
    };
    let before = pods.iter().map(owner).collect::<Result<Vec<_>>>()?;
    // Without the server of the first pod: the others' pods stay.
    let gone = &before[0];
    let index = scene.servers.iter().position(|server| server.pod.name == *gone).unwrap_or(0);
    let mut fewer = scene.service.clone();
    fewer.instances.drain(index * 2..index * 2 + 2);
    scene.agent.reload(&with(&fewer, policy))?;
    let mut moved = 0;
    for (pod, before) in pods.iter().zip(&before) {
        let after = owner(pod)?;
        assert_ne!(after, *gone);
        moved += usize::from(before != gone && after != *before);
    }
    // Up to 5 % of the others' places may change hands.
    assert!(moved <= 1, "{moved} pods moved that need not");
    Ok(())
}

#[test]
fn a_client_keeps_its_backend_while_that_is_there() -> Result<()> {
    let policy = "loadBalancer: {algorithm: random}, sessionAffinity: {clientIP: {timeout: 2s}}";
    let scene = scene("kaffinity", policy)?;
    let counts = scene.ask(&scene.client, 30)?;
    assert_eq!(counts.len(), 1, "{counts:?}");
    let kept = counts.into_keys().next().unwrap_or_default();
    let index = scene.servers.iter().position(|server| server.pod.name == kept).unwrap_or(0);
    // Another instance goes: the client stays.
    let mut fewer = scene.service.clone();
    let other = (index + 1) % 3;
    fewer.instances.drain(other * 2..other * 2 + 2);
    scene.agent.reload(&with(&fewer, policy))?;
    assert_eq!(scene.ask(&scene.client, 20)?.into_keys().next(), Some(kept.clone()));
    // Its own goes: it moves, and stays there.
    let mut fewer = scene.service.clone();
    fewer.instances.drain(index * 2..index * 2 + 2);
    scene.agent.reload(&with(&fewer, policy))?;
    let counts = scene.ask(&scene.client, 20)?;
    assert!(counts.len() == 1 && !counts.contains_key(&kept), "{counts:?}");
    // After a silence it is balanced anew: three clients in a row may well get
    // the same one, ten hardly.
    eventually_for(Duration::from_secs(60), "another backend after a silence", || {
        let before = scene.ask(&scene.client, 1)?;
        std::thread::sleep(Duration::from_millis(2100));
        let after = scene.ask(&scene.client, 1)?;
        ensure!(before != after, "{after:?} again");
        Ok(())
    })
}

#[test]
fn what_ends_unseen_is_taken_off_the_counts() -> Result<()> {
    let scene = scene("kunseen", "loadBalancer: {algorithm: leastConnections}")?;
    let address = scene.service.ip4().to_string();
    let mut held = scene.client.spawn("python3", ["-c", HOLD, &address])?;
    let in_flight = || -> Result<u64> {
        let endpoints = scene.agent.json(["endpoints", "web"])?;
        let all = endpoints.as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter_map(|endpoint| endpoint["inFlight"].as_u64()).sum())
    };
    let wait = |expect: u64| {
        eventually_for(Duration::from_secs(60), &format!("{expect} connections"), || {
            let open = in_flight()?;
            ensure!(open == expect, "{open}");
            Ok(())
        })
    };
    wait(20)?;
    // Without its hooks nobody sees the end of a connection.
    let status = scene.agent.json(["status"])?;
    for hook in status["hooks"].as_array().cloned().unwrap_or_default() {
        std::fs::remove_file(hook["pinned"].as_str().unwrap_or_default())?;
    }
    held.kill9()?;
    wait(0)
}

/// An instance at its limit is no place to keep to: the limit of one that
/// answers one request at a time stays near its least, 3.
#[test]
fn a_client_leaves_its_backend_when_that_is_full() -> Result<()> {
    let policy = "sessionAffinity: {clientIP: {timeout: 1h}}, adaptiveConcurrency: {}";
    let scene = scene("kfull", policy)?;
    let counts = scene.ask(&scene.client, 30)?;
    assert_eq!(counts.len(), 1, "{counts:?}");
    let kept = counts.into_keys().next().unwrap_or_default();
    let index = scene.servers.iter().position(|server| server.pod.name == kept).unwrap_or(0);
    let own = format!("{}:", scene.servers[index].pod.ip4);
    // Its limit is in the kernel a moment after the first answers.
    std::thread::sleep(Duration::from_secs(2));
    let held = scene.client.spawn("python3", ["-c", HOLD, &scene.service.ip4().to_string()])?;
    eventually_for(Duration::from_secs(20), "20 connections to be open", || {
        ensure!(held.log().contains("held"), "{}", held.log());
        Ok(())
    })?;
    let endpoints = scene.agent.json(["endpoints", "web"])?;
    let all = endpoints.as_array().cloned().unwrap_or_default();
    let open = |kept: bool| -> u64 {
        let of = all.iter().filter(|one| {
            one["address"].as_str().is_some_and(|address| address.starts_with(&own)) == kept
        });
        of.filter_map(|endpoint| endpoint["inFlight"].as_u64()).sum()
    };
    assert!((1..=10).contains(&open(true)), "{endpoints}");
    assert_eq!(open(true) + open(false), 20, "{endpoints}");
    Ok(())
}

/// Something is in the way of the programs that time answers: all that depends
/// on them is named, until they are there.
#[test]
fn answers_that_cannot_be_timed_are_a_degradation() -> Result<()> {
    let scene = scene("kuntimed", "loadBalancer: {algorithm: roundRobin}")?;
    let status = scene.agent.json(["status"])?;
    let hooks = status["hooks"].as_array().cloned().unwrap_or_default();
    let pin = hooks.iter().find(|hook| hook["hook"] == "sock_ops");
    let pin = pin.and_then(|hook| hook["pinned"].as_str()).unwrap_or_default();
    let obstacle = pin.replace("sock_ops", "ingress");
    ensure!(obstacle != pin, "{status}");
    std::fs::create_dir(&obstacle)?;
    scene.agent.reload(&with(&scene.service, "loadBalancer: leastResponseTime"))?;
    let wait = |what: &str, is: &dyn Fn(&serde_json::Value) -> bool| {
        eventually_for(Duration::from_secs(20), what, || {
            let status = scene.agent.json(["status"])?;
            ensure!(is(&status), "{} {}", status["degraded"], status["hooks"]);
            Ok(())
        })
    };
    wait("a degradation", &|status| {
        let text = status["degraded"].to_string();
        text.contains("leastResponseTime") && text.contains("adaptiveConcurrency")
    })?;
    let logged = scene.agent.log().matches("the programs that time answers failed").count();
    assert_eq!(logged, 1, "once, however often it is tried");
    std::fs::remove_dir(&obstacle)?;
    wait("its end", &|status| {
        let hooks = status["hooks"].as_array().cloned().unwrap_or_default();
        let timed = hooks.iter().any(|hook| hook["hook"] == "ingress" && hook["ok"] == true);
        timed && status["degraded"].as_array().is_some_and(Vec::is_empty)
    })
}
