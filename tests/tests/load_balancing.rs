//! What the algorithms promise, on the proxy path, with real servers: the shares
//! of weights, the choice of two, keys that stick, and session affinity.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use mesh_tests::{Load, Trio, eventually, eventually_for, server::Mood};

/// How often each instance answered.
fn answers(output: &str) -> BTreeMap<&str, usize> {
    output.lines().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    })
}

fn scene(name: &str, policy: &str) -> Result<Trio> {
    Trio::ip4(name, ("http", "proxy"), policy)
}

#[test]
fn weights_share_exactly_in_turn() -> Result<()> {
    let scene = scene("weights", "")?;
    let mut yaml = scene.service.under("{loadBalancer: {algorithm: weighted}}");
    for (server, weight) in scene.servers.iter().zip([3, 1, 0]) {
        let plain = format!("address: \"{}\", port: 80", server.pod.ip4);
        yaml = yaml.replace(&plain, &format!("{plain}, weight: {weight}"));
    }
    scene.agent.reload(&yaml)?;
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
    let scene = scene("least", "loadBalancer: {algorithm: leastConnections}")?;
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

const USUAL: Duration = Duration::from_millis(5);

/// A server that has become slower by 20 ms gets under a tenth of the picks two
/// seconds later, and is back to normal after it recovers.
fn leaves_a_slow_instance_and_returns(scene: &Trio) -> Result<()> {
    let mood = |delay| Mood { delay, ..Mood::default() };
    for server in &scene.servers {
        server.be(mood(USUAL))?;
    }
    let load = Load::connecting(&scene.client, &scene.address(), 2)?;
    let now = || load.seen().last().map_or(0.0, |attempt| attempt.at);
    // Its part of all requests that began then, in percent.
    let share = |name: &str, from: f64, to: f64| -> Result<f64> {
        eventually("time to pass", || if now() > to { Ok(()) } else { Err(now()) })?;
        let seen = load.seen();
        let then: Vec<_> = seen.iter().filter(|one| (from..to).contains(&one.at)).collect();
        ensure!(then.iter().all(|one| !one.failed()), "{then:?}");
        ensure!(then.len() > 30, "only {} requests in {} s", then.len(), to - from);
        let his = then.iter().filter(|one| one.what == name).count();
        Ok(100.0 * his as f64 / then.len() as f64)
    };
    load.wait("answers", 0, |seen| seen.len() > 50)?;
    eventually("all three to be used", || match share("one", now() - 1.0, now())? {
        share if share > 15.0 => Ok(()),
        share => bail!("{share} %"),
    })?;
    // A stall of the machine looks like a slow server, and is remembered: that
    // spoils some of the tries. A rule that is wrong spoils all.
    let slow_one = |victim: usize| -> Result<f64> {
        let (server, name) = (&scene.servers[victim], Trio::NAMES[victim]);
        server.be(mood(USUAL + Duration::from_millis(20)))?;
        let slowed = now();
        let slow = share(name, slowed + 2.0, slowed + 3.0)?;
        eprintln!("{slow:.1} % two seconds after {name} slowed by 20 ms");
        server.be(mood(USUAL))?;
        Ok(slow)
    };
    let mut tries = Vec::new();
    let victim = loop {
        let victim = tries.len();
        ensure!(victim < 3, "{tries:?} % of the picks two seconds after each had slowed");
        tries.push(slow_one(victim)?);
        if tries[victim] < 10.0 {
            break victim;
        }
    };
    let well = now();
    // It was five times as slow: forgotten after 10 s · ln 5.
    eventually_for(Duration::from_secs(60), "its part again", || {
        match share(Trio::NAMES[victim], now() - 1.0, now())? {
            share if share > 20.0 => Ok(()),
            share => bail!("{share} %"),
        }
    })?;
    eprintln!("back to over 20 % {:.1} s after it recovered", now() - well);
    Ok(())
}

const RESPONSE_TIME: &str = "loadBalancer: {algorithm: leastResponseTime}";

#[test]
fn least_response_time_leaves_a_slow_instance_on_the_proxy_path() -> Result<()> {
    leaves_a_slow_instance_and_returns(&scene("slow", RESPONSE_TIME)?)
}

#[test]
fn least_response_time_leaves_a_slow_instance_on_the_kernel_path() -> Result<()> {
    let scene = Trio::ip4("kslow", ("tcp", "kernel"), RESPONSE_TIME)?;
    // The programs that time answers are there, and well.
    let status = scene.agent.json(["status"])?;
    let hooks = status["hooks"].as_array().cloned().unwrap_or_default();
    assert!(hooks.iter().any(|hook| hook["hook"] == "ingress" && hook["ok"] == true), "{status}");
    leaves_a_slow_instance_and_returns(&scene)
}

#[test]
fn a_header_sticks_to_its_instance_and_moves_when_that_is_gone() -> Result<()> {
    let policy = "loadBalancer: {algorithm: consistentHash, hashOn: 'header:x-user'}";
    let scene = scene("hash", policy)?;
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
    let policy = "loadBalancer: {algorithm: random}, sessionAffinity: {clientIP: {timeout: 1h}}";
    let scene = scene("affinity", policy)?;
    let output = scene.client.curl(["-H", "connection: close", "http://web/?[1-30]"])?;
    let counts = answers(&output);
    assert_eq!(counts.len(), 1, "{counts:?}");
    let (kept, _) = counts.first_key_value().expect("one instance answered");
    let pod =
        &scene.servers[Trio::NAMES.iter().position(|name| name == kept).expect("one of ours")].pod;
    scene.agent.ask(["drain", "web", &format!("{}:80", pod.ip4)])?;
    let output = scene.client.curl(["http://web/?[1-30]"])?;
    let moved = answers(&output);
    assert!(moved.len() == 1 && !moved.contains_key(kept), "from {kept} to {moved:?}");
    Ok(())
}
