//! What the hooks decide by themselves of instances that fail. Faults of all
//! kinds, on both paths, stand in `failover.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::{Attempt, Load, Trio, answers, link, server::Mood};

const EJECTED: &str = "ejected on the kernel path";
const RETURNED: &str = "back in service on the kernel path";

const POLICY: &str = "timeout: {connect: 300ms}, slowStart: {window: 1s}, \
    failover: {base: 2s, max: 4s}";

fn scene(name: &str) -> Result<(Trio, Load)> {
    let trio = Trio::new(name, ("tcp", "kernel"), POLICY)?;
    let load = Load::connecting(&trio.client, &trio.address(), 1)?;
    load.wait("all three to answer", 0, |seen| answers(seen).len() == 3)?;
    Ok((trio, load))
}

fn failed(seen: &[Attempt]) -> Vec<&Attempt> {
    seen.iter().filter(|attempt| attempt.failed()).collect()
}

/// Three connects in a row eject; the turns that the client passes over, once it
/// has failed there, count.
#[test]
fn a_client_alone_meets_a_killed_instance_once() -> Result<()> {
    let (mut trio, load) = scene("kkill")?;
    let before = load.seen().len();
    trio.servers[0].process.kill9()?;
    trio.logged(EJECTED, 1)?;
    trio.logged("connects failed in a row, on the kernel path", 1)?;
    let ejected = load.seen().len();
    let seen = load.since(before);
    let connects = seen.iter().filter(|attempt| attempt.failed_to_connect()).count();
    ensure!(connects == 1, "{:?}", failed(&seen));
    // A request that was under way when it died may be lost as well.
    ensure!(failed(&seen).len() <= 2, "{:?}", failed(&seen));
    // While it is dead each exile ends with exactly one probe.
    trio.logged(EJECTED, 3)?;
    load.wait("two probes", ejected, |seen| failed(seen).len() >= 2)?;
    let seen = load.since(ejected);
    ensure!(failed(&seen).len() == trio.times_logged(EJECTED) - 1, "{:?}", failed(&seen));
    ensure!(!answers(&seen).contains_key("one"));
    // It comes back by itself, and gets its share.
    trio.servers[0].restart()?;
    trio.logged(RETURNED, 1)?;
    let back = load.seen().len();
    load.wait("its share", back + 100, |seen| {
        seen.len() > 60 && answers(seen).get("one").is_some_and(|&n| n * 100 / seen.len() > 20)
    })?;
    let after = load.since(back);
    ensure!(failed(&after).is_empty(), "{:?}", failed(&after));
    Ok(())
}

#[test]
fn an_unreachable_instance_costs_the_connect_timeout() -> Result<()> {
    let (trio, load) = scene("kcut")?;
    let before = load.seen().len();
    link(&trio.servers[1].pod, "down")?;
    trio.logged(EJECTED, 1)?;
    let seen = load.since(before);
    let connects: Vec<_> = seen.iter().filter(|attempt| attempt.failed_to_connect()).collect();
    // Set on the socket: neither the minutes of the kernel, nor the client's 1.2 s.
    ensure!(connects.len() == 1, "{:?}", failed(&seen));
    let attempt = connects[0];
    let quick = attempt.what.ends_with("!EHOSTUNREACH");
    ensure!((quick || attempt.took > 0.2) && attempt.took < 1.1, "{attempt:?}");
    link(&trio.servers[1].pod, "up")?;
    trio.logged(RETURNED, 1)?;
    load.wait("all three to answer", load.seen().len(), |seen| answers(seen).len() == 3)
}

#[test]
fn when_all_fail_they_are_used_all_the_same() -> Result<()> {
    let (mut trio, load) = scene("kpanic")?;
    for server in &mut trio.servers {
        server.process.kill9()?;
    }
    // At most one of three leaves; the others go on refusing.
    trio.logged(EJECTED, 1)?;
    let from = load.seen().len();
    load.wait("refusals", from, |seen| failed(seen).len() > 30)?;
    let seen = load.since(from);
    ensure!(seen.iter().all(|attempt| attempt.what == "!connect!ECONNREFUSED"), "{seen:?}");
    for server in &mut trio.servers {
        server.restart()?;
    }
    load.wait("all three to answer", load.seen().len(), |seen| answers(seen).len() == 3)
}

/// By affinity as well: it doesn't hold to an instance that its client just
/// failed to reach.
#[test]
fn a_client_with_affinity_leaves_an_instance_that_refused_it() -> Result<()> {
    let policy = "failover: {consecutiveFailures: {connect: 100}, base: 60s}, \
        sessionAffinity: {clientIP: {timeout: 1h}}";
    let mut trio = Trio::ip4("kleave", ("tcp", "kernel"), policy)?;
    let load = Load::connecting(&trio.client, &trio.address(), 1)?;
    load.wait("answers", 0, |seen| seen.len() > 20)?;
    let kept = load.seen();
    let kept = answers(&kept).keys().next().map(|name| (*name).to_owned()).unwrap_or_default();
    let index = Trio::NAMES.iter().position(|name| *name == kept).unwrap_or(0);
    let before = load.seen().len();
    trio.servers[index].process.kill9()?;
    load.wait("another to answer", before, |seen| answers(seen).keys().any(|name| *name != kept))?;
    let from = load.seen().len();
    load.wait("it to be kept", from, |seen| seen.len() > 40)?;
    let seen = load.since(before);
    let connects = seen.iter().filter(|attempt| attempt.failed_to_connect()).count();
    ensure!(connects == 1, "{:?}", failed(&seen));
    ensure!(trio.times_logged(EJECTED) == 0, "a hundred were asked for");
    ensure!(answers(&load.since(from)).len() == 1, "{:?}", answers(&load.since(from)));
    Ok(())
}

/// Has two answers, then sends twenty requests and aborts each before its
/// answer: `SO_LINGER` 0 makes the kernel send a reset. Then it begins twenty
/// connects, and gives them up at once.
const ABORTS: &str = r#"
import socket, struct, sys
for number in range(22):
    one = socket.create_connection((sys.argv[1], 80), 5)
    one.sendall(b"GET / HTTP/1.0\r\n\r\n")
    if number < 2:
        while one.recv(4096):
            pass
    else:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
for number in range(20):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((sys.argv[1], 80))
    one.close()
"#;

/// Sends 24 requests at once, and waits for each for 1.2 s at most.
const WAITS: &str = r#"
import socket, sys, threading
def ask():
    with socket.create_connection((sys.argv[1], 80), 5) as one:
        one.settimeout(1.2)
        try:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            one.recv(4096)
        except OSError:
            pass
threads = [threading.Thread(target=ask) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"#;

/// What the client does isn't the instance's failure; and of what is, it says
/// what it was.
#[test]
fn failures_are_told_from_aborts_and_from_each_other() -> Result<()> {
    let mood = |delay, status| Mood { delay: Duration::from_millis(delay), status, workers: 0 };
    let policy = "failover: {base: 60s, maxEjected: 100%}";
    let trio = Trio::ip4("kabort", ("tcp", "kernel"), policy)?;
    let ask = |program| trio.client.run("python3", ["-c", program, &trio.address()]);
    ask(WAITS)?;
    for server in &trio.servers {
        server.be(mood(300, 200))?;
    }
    ask(ABORTS)?;
    ask(ABORTS)?;
    let status = trio.agent.json(["status"])?;
    let reasons = status["reasons"].as_array().cloned().unwrap_or_default();
    let count = |name: &str| {
        let found = reasons.iter().find(|reason| reason["name"] == name);
        found.and_then(|reason| reason["count"].as_u64())
    };
    ensure!(count("ejected") == Some(0), "{reasons:?}");
    ensure!(count("ejection-capped") == Some(0), "{reasons:?}");
    ensure!(count("balanced").is_some_and(|count| count >= 100), "{reasons:?}");

    trio.servers[0].be(mood(0, 0))?;
    ask(WAITS)?;
    trio.logged("connections broke before an answer, in a row, on the kernel path", 1)?;
    trio.servers[1].be(mood(4000, 200))?;
    ask(WAITS)?;
    let why = "clients got no answer and gave up, in a row, on the kernel path";
    trio.logged(why, 1)?;
    ensure!(trio.times_logged(EJECTED) == 2, "{}", trio.agent.log());
    let endpoints = trio.agent.json(["endpoints", "web"])?;
    ensure!(endpoints.to_string().contains(why), "{endpoints}");
    Ok(())
}
