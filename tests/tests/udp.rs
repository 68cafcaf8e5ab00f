//! UDP clients through virtual addresses.

use std::collections::BTreeSet;

use anyhow::Result;
use mesh_tests::{
    Agent, Pod, Service, World,
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
