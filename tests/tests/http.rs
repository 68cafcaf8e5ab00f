//! HTTP through the agent: both versions, bodies of any size, many
//! connections, upgrades, and nothing that a backend could misunderstand.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Service, World, eventually, server::Nginx};

struct Scene {
    agent: Agent,
    client: Pod,
    server: Nginx,
    h1: String,
    h2: String,
    _world: World,
}

fn scene(name: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let server = Nginx::start(&world.backend("one")?)?;
    let client = world.client("client")?;
    let h1 = Service::new("h1", 20, ("http", "auto"), [&server.pod], 80);
    let h2 = Service::new("h2", 21, ("http2", "auto"), [&server.pod], 81);
    let agent = Agent::start(&world, &format!("{h1}{h2}"))?;
    agent.wait_for(&client)?;
    let (h1, h2) = (format!("http://{}", h1.ip4()), format!("http://{}", h2.ip4()));
    Ok(Scene { agent, client, server, h1, h2, _world: world })
}

#[test]
fn both_versions_of_http() -> Result<()> {
    let scene = scene("versions")?;
    let version = ["-w", "%{http_version}"];
    let get = |flag: &str, url: &str| scene.client.curl([version[0], version[1], flag, url]);
    assert_eq!(get("--http1.1", &scene.h1)?, "one\n1.1");
    assert_eq!(get("--http1.0", &scene.h1)?, "one\n1");
    assert_eq!(get("--http2-prior-knowledge", &scene.h2)?, "one\n2");
    let head = scene.client.curl(["--head", "--http1.1", &scene.h1])?;
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("content-length: 4"));

    // Host is kept; the client's address is told.
    let host = format!("{}/echo-host", scene.h1);
    assert_eq!(scene.client.curl(["-H", "Host: books.test", &host])?, "books.test\n");
    let forwarded = format!("{}/forwarded", scene.h1);
    // The address by which the instance sees the pod, in the instance's family.
    let own = [scene.client.ip4.to_string(), scene.client.ip6.to_string()];
    let seen = scene.client.curl([&forwarded as &str])?;
    assert!(own.iter().any(|own| seen.trim() == own), "{seen}");
    let seen = scene.client.curl(["-H", "X-Forwarded-For: 192.0.2.1", &forwarded])?;
    assert!(own.iter().any(|own| seen.trim() == format!("192.0.2.1, {own}")), "{seen}");
    Ok(())
}

#[test]
fn bodies_arrive_whole_both_ways() -> Result<()> {
    let scene = scene("bodies")?;
    // Every block differs, so that a lost or doubled one shows.
    let content: Vec<u8> = (0..4 * 1024 * 1024_u64).flat_map(u64::to_le_bytes).collect();
    scene.server.serve("down", &content)?;
    let upload = scene.client.file("upload", &content)?;
    let upload = upload.to_str().context("paths of a world are ASCII")?;
    let received = scene.client.folder.join("received");
    let received = received.to_str().context("paths of a world are ASCII")?;
    for (base, flag) in [(&scene.h1, "--http1.1"), (&scene.h2, "--http2-prior-knowledge")] {
        scene.client.curl([flag, "-o", received, &format!("{base}/files/down")])?;
        ensure!(fs::read(received)? == content, "the download over {flag} is damaged");
        let name = format!("up{flag}");
        let target = format!("{base}/files/{name}");
        // With `Expect: 100-continue`, which curl sends by itself.
        scene.client.curl([flag, "-T", upload, &target])?;
        ensure!(scene.server.stored(&name)? == content, "the upload over {flag} is damaged");
        // Of unknown length.
        let line = format!("cat {upload} | curl -sSf {flag} -T - {base}/files/chunked");
        scene.client.shell(&line)?;
        ensure!(scene.server.stored("chunked")? == content, "chunks over {flag} are damaged");
    }
    Ok(())
}

#[test]
fn many_short_connections_leave_nothing_behind() -> Result<()> {
    let scene = scene("many")?;
    let descriptors = || -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", scene.agent.pid()))?.count())
    };
    let url = format!("{}/?[1-1000]", scene.h1);
    let sequential = ["-H", "Connection: close", &url];
    let parallel = ["--parallel", "--parallel-max", "100", "-H", "Connection: close", &url];
    // Fills pools and caches, which may stay.
    scene.client.curl(parallel)?;
    let before = descriptors()?;
    for arguments in [&sequential[..], &parallel[..]] {
        let answers = scene.client.curl(arguments.iter().copied())?;
        assert_eq!(answers.lines().filter(|line| *line == "one").count(), 1000);
    }
    eventually("the agent to close what clients closed", || match descriptors() {
        Ok(now) if now <= before + 8 => Ok(()),
        now => Err(format!("{now:?} descriptors, {before} before")),
    })
}

#[test]
fn clients_that_have_said_all_get_their_answer() -> Result<()> {
    const CLIENT: &str = "import socket, sys\n\
        answered = 0\n\
        for _ in range(50):\n    \
            connection = socket.create_connection((sys.argv[1], 80), 5)\n    \
            connection.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n    \
            connection.shutdown(socket.SHUT_WR)\n    \
            answered += b''.join(iter(lambda: connection.recv(4096), b'')).endswith(b'one\\n')\n\
        print(answered)";
    let scene = scene("halfhttp")?;
    let address = scene.h1.trim_start_matches("http://");
    assert_eq!(scene.client.run("python3", ["-c", CLIENT, address])?.trim(), "50");
    Ok(())
}

/// Sends `argv[2]` (with escapes) as it is and prints the status line.
const RAW: &str = "import socket, sys\n\
    connection = socket.create_connection((sys.argv[1], 80), 5)\n\
    connection.sendall(sys.argv[2].encode().decode('unicode_escape').encode('latin1'))\n\
    print(connection.recv(65536).split(b'\\r\\n')[0].decode('latin1'))";

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() -> Result<()> {
    let scene = scene("smuggling")?;
    let address = scene.h1.trim_start_matches("http://").to_owned();
    let send = |text: &str| scene.client.run("python3", ["-c", RAW, &address, text]);
    assert!(send(r"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?.contains(" 200 "));
    let before = scene.server.clients().len();
    for bad in [
        r"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        r"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        r"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
        r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        r"GET / HTTP/1.1\r\nHost: a\r\nX: one\r\n two\r\n\r\n",
        r"GET / HTTP/1.1\r\nHost: a\r\nX: one\rY: two\r\n\r\n",
        r"GET / HTTP/1.1\r\nHost: a\r\nX: one\x00two\r\n\r\n",
        r"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        r"GET / HTTP/1.1\r\n\r\n",
    ] {
        let status = send(bad)?;
        assert!(status.contains(" 400 "), "{status} for {bad}");
    }
    assert_eq!(scene.server.clients().len(), before, "none of them reached the backend");
    Ok(())
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() -> Result<()> {
    /// Switches protocols, then answers each line in capitals.
    const SERVER: &str = "import socket\n\
        server = socket.create_server(('', 8080), family=socket.AF_INET6, dualstack_ipv6=True)\n\
        while True:\n    \
            connection, _ = server.accept()\n    \
            stream = connection.makefile('rwb')\n    \
            upgrade = any([b'upgrade: websocket' in line.lower() for line in iter(stream.readline, b'\\r\\n')])\n    \
            assert upgrade\n    \
            stream.write(b'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')\n    \
            stream.flush()\n    \
            for line in stream:\n        \
                stream.write(line.upper())\n        \
                stream.flush()";
    const CLIENT: &str = "import socket, sys\n\
        connection = socket.create_connection((sys.argv[1], 80), 5)\n\
        stream = connection.makefile('rwb')\n\
        stream.write(b'GET /chat HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')\n\
        stream.flush()\n\
        print(stream.readline().decode().strip())\n\
        while stream.readline() != b'\\r\\n': pass\n\
        for word in (b'one\\n', b'two\\n'):\n    \
            stream.write(word)\n    \
            stream.flush()\n    \
            print(stream.readline().decode().strip())";
    let world = World::new("upgrade")?;
    let (server, client) = (world.backend("one")?, world.client("client")?);
    let _process = server.spawn("python3", ["-c", SERVER])?;
    let service = Service::new("chat", 20, ("http", "auto"), [&server], 8080);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    let seen = eventually("the conversation", || {
        let seen = client.run("python3", ["-c", CLIENT, &service.ip4().to_string()])?;
        ensure!(seen.contains(" 101 "), "{seen}");
        Ok(seen)
    })?;
    assert_eq!(seen.lines().skip(1).collect::<Vec<_>>(), ["ONE", "TWO"]);
    Ok(())
}
