//! What the hooks decide by themselves of instances that fail. Faults of all
//! kinds, on both paths, stand in `failover.rs`.

use anyhow::{Result, ensure};
use mesh_tests::{Attempt, Load, Trio, answers, link};

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
