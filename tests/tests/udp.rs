//! UDP clients through virtual addresses.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use mesh_tests::{
    Agent, Pod, Service, World, eventually_for,
    server::{Dnsmasq, Echo},
};

/// Sends ten datagrams to `argv[1]`, from one socket each, connected or not,
/// and prints each answer and the address that it seems to come from.
const CLIENT: &str = r#"
import socket, sys
address, connected = sys.argv[1], sys.argv[2] == "connected"
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for number in range(10):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        if connected:
            client.connect((address, 80))
            client.send(b"hello")
        else:
            client.sendto(b"hello", (address, 80))
        data, peer = client.recvfrom(1000)
        name, seen, text = data.decode().split()
        print(name, seen, text, peer[0], peer[1])
"#;

#[test]
fn datagrams_reach_the_backends_and_answers_come_from_the_virtual_address() -> Result<()> {
    let world = World::new("udp")?;
    let (one, two) = (world.backend("one")?, world.backend("two")?);
    let _servers = [Echo::start(&one)?, Echo::start(&two)?];
    let client = world.client("client")?;
    let service = Service::new("echo", 30, ("udp", "auto"), [&one, &two], 7);
    let _agent = Agent::start(&world, &service.to_string())?;
    for how in ["connected", "unconnected"] {
        let (vip, own) = (service.ip4().to_string(), client.ip4.to_string());
        answers(&client, &vip, &own, how)?;
        let (vip, own) = (service.ip6().to_string(), client.ip6.to_string());
        answers(&client, &vip, &own, how)?;
    }
    Ok(())
}

fn answers(client: &Pod, vip: &str, own: &str, how: &str) -> Result<()> {
    let seen = client.run("python3", ["-c", CLIENT, vip, how])?;
    let mut names = BTreeSet::new();
    for line in seen.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or_default();
        names.insert(name);
        assert_eq!(rest, format!("{own} hello {vip} 80"), "{how}");
    }
    assert_eq!(names, BTreeSet::from(["one", "two"]), "{how} to {vip}");
    Ok(())
}

#[test]
fn a_dns_server_behind_a_virtual_address() -> Result<()> {
    let world = World::new("dnsvip")?;
    let dns = world.backend("dns")?;
    let _dnsmasq = Dnsmasq::start(&dns, &[("other.test", "10.9.8.7".parse()?)])?;
    let client = world.client("client")?;
    let mut service = Service::new("resolver", 10, ("udp", "auto"), [&dns], 53);
    service.port = 53;
    // With the agent's own DNS in between, and without.
    for dns in ["dns: {enabled: true}\n", "dns: {enabled: false}\n"] {
        let mut agent = Agent::start_with(&world, dns, &service.to_string())?;
        agent.wait_for(&client)?;
        for address in [service.ip4().to_string(), service.ip6().to_string()] {
            let line = format!("dig +time=2 +tries=2 @{address} other.test");
            let answer = client.shell(&line)?;
            assert!(answer.contains("10.9.8.7"), "{dns}{answer}");
            assert!(!answer.contains("unexpected source"), "{dns}{answer}");
        }
        agent.stop()?;
    }
    Ok(())
}

/// Has an answer on each of ten sockets, half of them connected, and keeps
/// them.
const HOLD: &str = r#"
import socket, sys, time
held = []
for number in range(10):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(5)
    if number % 2:
        one.connect((sys.argv[1], 80))
        one.send(b"hello")
    else:
        one.sendto(b"hello", (sys.argv[1], 80))
        # Once more: it is the same socket.
        one.sendto(b"hello", (sys.argv[1], 80))
    one.recvfrom(1000)
    held.append(one)
print("held", flush=True)
if len(sys.argv) > 2:
    # Two of them deal with another service, and count there from now on.
    held[0].sendto(b"hello", (sys.argv[2], 80))
    held[1].connect((sys.argv[2], 80))
    held[0].recvfrom(1000)
    print("moved", flush=True)
time.sleep(600)
"#;

#[test]
fn a_socket_counts_with_the_instance_it_dealt_with_last_until_it_is_closed() -> Result<()> {
    let world = World::new("udpopen")?;
    let (one, two) = (world.backend("one")?, world.backend("two")?);
    let _servers = [Echo::start(&one)?, Echo::start(&two)?];
    let client = world.client("client")?;
    let policy = "{loadBalancer: {algorithm: leastConnections}, connections: {max: 12}}";
    let both = Service::new("both", 31, ("udp", "auto"), [&one, &two], 7);
    let other = Service::new("other", 32, ("udp", "auto"), [&two], 7);
    let agent = Agent::start(&world, &[both.under(policy), other.under(policy)].concat())?;
    agent.wait_for(&client)?;
    let open = |service: &str| -> Result<Vec<u64>> {
        let endpoints = agent.json(["endpoints", service])?;
        let all = endpoints.as_array().cloned().unwrap_or_default();
        let of_v4 = all.iter().filter(|one| !one["address"].to_string().contains('['));
        Ok(of_v4.filter_map(|endpoint| endpoint["inFlight"].as_u64()).collect())
    };
    let wait = |what: &str, is: &dyn Fn(&[u64], &[u64]) -> bool| {
        eventually_for(Duration::from_secs(40), what, || {
            let (both, other) = (open("both")?, open("other")?);
            ensure!(is(&both, &other), "{both:?} {other:?}");
            Ok(())
        })
    };
    let sum = |of: &[u64]| of.iter().sum::<u64>();
    let (to, then) = (both.ip4().to_string(), other.ip4().to_string());

    // Less busy wins: as many for each, give or take a tie.
    let mut held = client.spawn("python3", ["-c", HOLD, &to])?;
    wait("ten sockets", &|both, other| {
        sum(both) == 10 && both.iter().all(|open| (4..=6).contains(open)) && sum(other) == 0
    })?;
    let listed = agent.json(["connections"])?;
    let listed = listed.as_array().cloned().unwrap_or_default();
    assert_eq!(listed.len(), 10, "{listed:?}");
    assert!(listed.iter().all(|one| one["original"] == format!("{to}:80")), "{listed:?}");
    let with_port = |one: &&serde_json::Value| !one["client"].to_string().ends_with(":0\"");
    assert_eq!(listed.iter().filter(with_port).count(), 10, "{listed:?}");
    held.kill9()?;
    wait("all to be closed", &|both, other| sum(both) + sum(other) == 0)?;

    let mut held = client.spawn("python3", ["-c", HOLD, &to, &then])?;
    wait("two that moved", &|both, other| sum(both) == 8 && sum(other) == 2)?;
    // Four more may be open here, and it says so to the others.
    let seen = client.run("python3", ["-c", KNOCK, &to])?;
    assert_eq!(seen.trim(), "4 EAGAIN");

    // Without its hooks nobody sees the end of a socket, but the agent.
    let status = agent.json(["status"])?;
    for hook in status["hooks"].as_array().cloned().unwrap_or_default() {
        std::fs::remove_file(hook["pinned"].as_str().unwrap_or_default())?;
    }
    held.kill9()?;
    wait("all to be taken off", &|both, other| sum(both) + sum(other) == 0)
}

/// Opens sockets until it is refused, and prints how many it got.
const KNOCK: &str = r#"
import errno, socket, sys
held = []
try:
    while len(held) < 50:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.connect((sys.argv[1], 80))
        held.append(one)
    print("never refused")
except OSError as error:
    print(len(held), errno.errorcode[error.errno])
"#;
