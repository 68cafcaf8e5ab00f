//! Captured connections to a virtual address reach the backends in turn, with
//! the pod's own source address, and the application sees the address that it
//! asked for.

use std::collections::BTreeMap;

use anyhow::Result;
use mesh_tests::{Agent, Pod, Service, World, eventually, server::Nginx};

const REQUESTS: usize = 300;

#[test]
fn kernel_path_tcp() -> Result<()> {
    balances("kernel", ("tcp", "kernel"))
}

#[test]
fn proxy_path_tcp() -> Result<()> {
    balances("proxytcp", ("tcp", "proxy"))
}

#[test]
fn proxy_path_http() -> Result<()> {
    balances("proxyhttp", ("http", "proxy"))
}

/// 300 connections over each family: 100 to each of three nginx.
fn balances(name: &str, way: (&'static str, &'static str)) -> Result<()> {
    let world = World::new(name)?;
    let servers = ["one", "two", "three"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let client = world.client("client")?;
    let service = Service::new("web", 20, way, servers.iter().map(|server| &server.pod), 80);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;

    for authority in service.authorities() {
        let before: Vec<_> = servers.iter().map(|server| server.clients().len()).collect();
        let url = format!("http://{authority}/?[1-{REQUESTS}]");
        let answers = client.curl(["-H", "Connection: close", &url])?;
        let mut counts = BTreeMap::new();
        for name in answers.lines() {
            *counts.entry(name).or_insert(0) += 1;
        }
        let fair = BTreeMap::from([("one", 100), ("two", 100), ("three", 100)]);
        assert_eq!(counts, fair, "to {authority}");

        let own = [client.ip4.to_string(), client.ip6.to_string()];
        for (server, before) in servers.iter().zip(before) {
            let seen = eventually("nginx to log all requests", || {
                let seen = server.clients().split_off(before);
                if seen.len() == 100 { Ok(seen) } else { Err(seen.len()) }
            })?;
            assert!(seen.iter().all(|address| own.contains(address)), "{seen:?}");
        }
    }
    for address in [service.ip4().to_string(), service.ip6().to_string()] {
        assert_eq!(peer(&client, &address)?, address);
    }
    Ok(())
}

/// What getpeername tells an application that connected to `address`.
fn peer(client: &Pod, address: &str) -> Result<String> {
    const PROGRAM: &str = "import socket, sys\n\
        connection = socket.create_connection((sys.argv[1], 80), 5)\n\
        print(connection.getpeername()[0])";
    Ok(client.run("python3", ["-c", PROGRAM, address])?.trim().to_owned())
}

#[test]
fn one_connection_is_balanced_by_request() -> Result<()> {
    let world = World::new("requests")?;
    let servers = ["one", "two", "three"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let client = world.client("client")?;
    let pods = servers.iter().map(|server| &server.pod);
    let service = Service::new("web", 20, ("http", "auto"), pods, 80);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    let format = "connects %{num_connects}\\n";
    let answers = client.curl(["-w", format, "http://web/?[1-30]"])?;
    for name in ["one", "two", "three"] {
        assert_eq!(answers.lines().filter(|line| *line == name).count(), 10, "{answers}");
    }
    let connects = answers.lines().filter(|line| *line == "connects 1").count();
    assert_eq!(connects, 1, "all on one connection: {answers}");
    Ok(())
}

#[test]
fn v4_mapped_addresses_and_later_processes_are_captured() -> Result<()> {
    let world = World::new("mapped")?;
    let server = Nginx::start(&world.backend("one")?)?;
    let early = world.client("early")?;
    let service = Service::new("web", 20, ("tcp", "kernel"), [&server.pod], 80);
    let _agent = Agent::start(&world, &service.to_string())?;
    // A pod that comes after the agent, from its first packet.
    let late = world.client("late")?;
    for pod in [early, late] {
        const PROGRAM: &str = "import socket, sys\n\
            connection = socket.socket(socket.AF_INET6)\n\
            connection.settimeout(5)\n\
            connection.connect(('::ffff:' + sys.argv[1], 80))\n\
            connection.send(b'GET / HTTP/1.0\\r\\n\\r\\n')\n\
            body = b''.join(iter(lambda: connection.recv(4096), b''))\n\
            print(connection.getpeername()[0], body.split()[-1].decode())";
        let seen = pod.run("python3", ["-c", PROGRAM, &service.ip4().to_string()])?;
        assert_eq!(seen.trim(), format!("::ffff:{} one", service.ip4()), "in pod {}", pod.name);
    }
    Ok(())
}

#[test]
fn sockets_outside_are_left_alone() -> Result<()> {
    let world = World::new("outside")?;
    let server = Nginx::start(&world.backend("one")?)?;
    let (client, outside) = (world.client("client")?, world.backend("outside")?);
    let service = Service::new("web", 20, ("tcp", "kernel"), [&server.pod], 80);
    let _agent = Agent::start(&world, &service.to_string())?;
    let [authority, _] = service.authorities();
    let url = format!("http://{authority}/");
    assert_eq!(client.curl([&url as &str])?, "one\n");
    let failed = outside.curl([&url as &str]).expect_err("this pod is not captured");
    assert!(format!("{failed:#}").contains("Couldn't connect"), "{failed:#}");
    // And a captured pod still reaches what is no service.
    let direct = format!("http://{}/", server.pod.ip4);
    assert_eq!(client.curl([&direct as &str])?, "one\n");
    Ok(())
}

#[test]
fn a_service_without_instances_refuses_at_once() -> Result<()> {
    let world = World::new("empty")?;
    let client = world.client("client")?;
    let service = Service::new("web", 20, ("tcp", "kernel"), [], 80);
    let _agent = Agent::start(&world, &service.to_string())?;
    const PROGRAM: &str = "import errno, socket, sys, time\n\
        start = time.monotonic()\n\
        try:\n    socket.create_connection((sys.argv[1], 80), 5)\n\
        except OSError as error:\n    \
            print(errno.errorcode[error.errno], time.monotonic() - start < 0.1)";
    for address in [service.ip4().to_string(), service.ip6().to_string()] {
        let seen = client.run("python3", ["-c", PROGRAM, &address])?;
        assert_eq!(seen.trim(), "EHOSTUNREACH True", "to {address}");
    }
    Ok(())
}
