//! TCP through the agent: bytes as they are, both directions on their own.

use anyhow::Result;
use mesh_tests::{Agent, Pod, Service, World, eventually, server::Echo};

/// A TCP service over pods that run `program` on port 7.
struct Scene {
    agent: Agent,
    client: Pod,
    service: Service,
    _servers: Vec<mesh_tests::Process>,
    _world: World,
}

fn scene(name: &str, way: (&'static str, &'static str), program: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let server = world.backend("one")?;
    let process = server.spawn("python3", ["-c", program])?;
    let client = world.client("client")?;
    eventually("the server to listen", || {
        let script = format!("exec 3<>/dev/tcp/{}/7", server.ip4);
        server.run("bash", ["-c", &script])
    })?;
    let service = Service::new("raw", 20, way, [&server], 7);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    Ok(Scene { agent, client, service, _servers: vec![process], _world: world })
}

const WAYS: [(&str, &str, &str); 3] =
    [("kernel", "tcp", "kernel"), ("proxy", "tcp", "proxy"), ("auto", "auto", "proxy")];

#[test]
fn half_closed_connections_still_answer() -> Result<()> {
    /// Answers with the length of all it was sent, once there is no more.
    const SERVER: &str = "import socket, threading\n\
        server = socket.create_server(('', 7), family=socket.AF_INET6, dualstack_ipv6=True)\n\
        def serve(connection):\n    \
            total = sum(iter(lambda: len(connection.recv(65536)), 0))\n    \
            connection.sendall(b'got %d' % total)\n    \
            connection.close()\n\
        while True: threading.Thread(target=serve, args=server.accept()[:1]).start()";
    const CLIENT: &str = "import socket, sys\n\
        connection = socket.create_connection((sys.argv[1], 80), 10)\n\
        connection.sendall(b'\\xff' * 5_000_000)\n\
        connection.shutdown(socket.SHUT_WR)\n\
        print(b''.join(iter(lambda: connection.recv(4096), b'')).decode())";
    for (name, protocol, path) in WAYS {
        let scene = scene(&format!("half{name}"), (protocol, path), SERVER)?;
        for address in [scene.service.ip4().to_string(), scene.service.ip6().to_string()] {
            let seen = scene.client.run("python3", ["-c", CLIENT, &address])?;
            assert_eq!(seen.trim(), "got 5000000", "{name} to {address}");
        }
    }
    Ok(())
}

#[test]
fn servers_that_speak_first_are_not_kept_waiting() -> Result<()> {
    const SERVER: &str = "import socket\n\
        server = socket.create_server(('', 7), family=socket.AF_INET6, dualstack_ipv6=True)\n\
        while True:\n    \
            connection, _ = server.accept()\n    \
            connection.sendall(b'220 welcome\\r\\n')\n    \
            connection.close()";
    const CLIENT: &str = "import socket, sys, time\n\
        start = time.monotonic()\n\
        connection = socket.create_connection((sys.argv[1], 80), 5)\n\
        greeting = connection.recv(100)\n\
        print(greeting.decode().strip(), time.monotonic() - start < 1)";
    for (name, protocol, path) in WAYS {
        let scene = scene(&format!("first{name}"), (protocol, path), SERVER)?;
        let address = scene.service.ip4().to_string();
        let seen = scene.client.run("python3", ["-c", CLIENT, &address])?;
        assert_eq!(seen.trim(), "220 welcome True", "{name}: {}", scene.agent.log());
    }
    Ok(())
}

#[test]
fn an_instance_that_refuses_is_passed_over() -> Result<()> {
    let world = World::new("refuses")?;
    let (alive, dead) = (world.backend("alive")?, world.backend("dead")?);
    let _echo = Echo::start(&alive)?;
    let client = world.client("client")?;
    let service = Service::new("raw", 20, ("tcp", "proxy"), [&dead, &alive], 7);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    let script = format!("exec 3<>/dev/tcp/{}/80; echo hello >&3; head -n1 <&3", service.ip4());
    for _ in 0..10 {
        let answer = client.run("bash", ["-c", &script])?;
        assert!(answer.starts_with("alive ") && answer.ends_with(" hello\n"), "{answer}");
    }
    Ok(())
}

#[test]
fn a_lack_of_descriptors_passes() -> Result<()> {
    /// Holds more connections than the agent has descriptors for.
    const CLIENT: &str = "import socket, sys, time\n\
        held = []\n\
        for _ in range(150):\n    \
            try:\n        \
                held.append(socket.create_connection((sys.argv[1], 80), 20))\n        \
                held[-1].sendall(b'held\\n')\n    \
            except OSError: pass\n\
        time.sleep(3)";
    let world = World::new("descriptors")?;
    let (server, client) = (world.backend("one")?, world.client("client")?);
    let _echo = Echo::start(&server)?;
    let service = Service::new("raw", 20, ("tcp", "proxy"), [&server], 7);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    let mut limit = world.command("prlimit", 10)?;
    limit.args(["--pid", &agent.pid().to_string(), "--nofile=200:200"]);
    mesh_tests::text(limit)?;
    let address = service.ip4().to_string();
    client.run("python3", ["-c", CLIENT, &address])?;
    let log = agent.log();
    assert!(log.contains("Too many open files"), "it ran out of them: {log}");
    assert!(!log.contains("namespace is gone"), "the listeners stay: {log}");
    assert!(log.lines().count() < 40, "it doesn't fill the disk with that: {log}");
    let script = format!("exec 3<>/dev/tcp/{address}/80; echo hello >&3; head -n1 <&3");
    let answer = client.run("bash", ["-c", &script])?;
    assert!(answer.ends_with(" hello\n"), "{answer}");
    Ok(())
}
