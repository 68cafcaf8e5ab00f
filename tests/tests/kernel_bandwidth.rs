//! Bandwidth on the kernel path, by pacing of sockets: the client's where it
//! sends, the instance's where that is captured too.

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Process, Service, World, eventually};

const LIMIT: f64 = (4 << 20) as f64;

/// Moves bytes over `argv[3]` connections, `up` or `down`, for `argv[4]`
/// seconds after the first; prints the bytes per second of each connection, as
/// the kernel acknowledged them (up) or handed them over (down).
const MOVE: &str = r#"
import selectors, socket, struct, sys, time
address, way, number, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
up = way == "up"
crowd = []
for _ in range(number):
    one = socket.create_connection((address, 80), 10)
    one.send(way[:1].encode())
    one.setblocking(False)
    crowd.append(one)
selector = selectors.DefaultSelector()
for index, one in enumerate(crowd):
    selector.register(one, selectors.EVENT_WRITE if up else selectors.EVENT_READ, index)
received, piece, room = [0] * number, bytes(65536), bytearray(262144)
def count():
    if not up:
        return list(received)
    infos = (one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232) for one in crowd)
    return [struct.unpack_from("Q", info, 120)[0] for info in infos]
def move(until):
    while (now := time.monotonic()) < until:
        for key, _ in selector.select(0.05):
            try:
                if up:
                    key.fileobj.send(piece)
                else:
                    received[key.data] += key.fileobj.recv_into(room)
            except BlockingIOError:
                pass
    return now, count()
start, before = move(time.monotonic() + 1)
end, after = move(start + seconds)
print(*((b - a) / (end - start) for a, b in zip(before, after)))
"#;

/// Takes what comes where the first byte is `u`, else sends without end.
const SINK: &str = r#"
import socket, threading
def serve(one):
    piece = bytes(65536)
    try:
        if one.recv(1) == b"u":
            while one.recv(262144): pass
        while True: one.sendall(piece)
    except OSError:
        pass
server = socket.create_server(("", 7), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

fn sink(pod: &Pod) -> Result<Process> {
    let process = pod.spawn("python3", ["-c", SINK])?;
    mesh_tests::server::wait_for_port(pod, 7)?;
    Ok(process)
}

/// Bytes per second of each connection, over a while.
fn rates(client: &Pod, address: &str, way: &str, connections: &str) -> Result<Vec<f64>> {
    let seen = client.run("python3", ["-c", MOVE, address, way, connections, "1.5"])?;
    seen.split_whitespace().map(|rate| rate.parse().context("a rate")).collect()
}

/// A busy machine may stall: it never sends more for it. Over five seconds, and
/// from below as well, `cargo xtask demo --scenario flow` holds the five percent.
fn check(what: &str, rates: &[f64]) {
    let total: f64 = rates.iter().sum();
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let fair = total / rates.len() as f64;
    eprintln!("{what}: {:.3} of the limit, least {:.2} of its share", total / LIMIT, least / fair);
    assert!((0.9 * LIMIT..1.05 * LIMIT).contains(&total), "{what}: {total}");
    assert!(least > fair / 2.0, "{what}: {least} of {fair}");
}

#[test]
fn it_holds_however_many_connections_share_it() -> Result<()> {
    let world = World::new("kpace")?;
    // The instance is captured too: its answers can be paced.
    let server = world.client("server")?;
    let _sink = sink(&server)?;
    let client = world.client("client")?;
    let service = Service::new("bulk", 43, ("tcp", "kernel"), [&server], 7);
    let policy = "{bandwidth: {upload: 4MiB, download: 4MiB}}";
    let _agent = Agent::start(&world, &service.under(policy))?;
    let (ip4, ip6) = (service.ip4().to_string(), service.ip6().to_string());
    for number in ["1", "4", "32"] {
        let (up, down) = std::thread::scope(|scope| {
            let up = scope.spawn(|| rates(&client, &ip4, "up", number));
            (rates(&client, &ip6, "down", number), up.join().expect("no panic"))
        });
        check(&format!("up {number}"), &up?);
        check(&format!("down {number}"), &down?);
    }
    Ok(())
}

#[test]
fn each_client_has_its_own() -> Result<()> {
    let world = World::new("kpaceclient")?;
    let server = world.client("server")?;
    let _sink = sink(&server)?;
    let (one, two) = (world.client("one")?, world.client("two")?);
    let service = Service::new("bulk", 44, ("tcp", "kernel"), [&server], 7);
    let policy = "{bandwidth: {upload: 4MiB, download: 4MiB, by: client}}";
    let _agent = Agent::start(&world, &service.under(policy))?;
    let ip = service.ip4().to_string();
    for way in ["up", "down"] {
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| rates(&two, &ip, way, "2"));
            (rates(&one, &ip, way, "4"), other.join().expect("no panic"))
        });
        check(&format!("{way}, one"), &first?);
        check(&format!("{way}, two"), &second?);
    }
    Ok(())
}

#[test]
fn a_download_takes_the_kernel_path_while_all_instances_are_captured() -> Result<()> {
    let world = World::new("kpaceauto")?;
    let inside = world.client("inside")?;
    let outside = world.backend("outside")?;
    let _inside = sink(&inside)?;
    let not_captured = sink(&outside)?;
    let client = world.client("client")?;
    let of = |pods: &[&Pod]| {
        let service = Service::new("bulk", 45, ("tcp", "auto"), pods.iter().copied(), 7);
        service.under("{bandwidth: {download: 4MiB}}")
    };
    let agent = Agent::start(&world, &of(&[&inside]))?;
    let takes = |path: &str, why: &str| {
        eventually("the service to take its path", || {
            let explained = agent.json(["explain", "10.96.0.45:80"])?;
            let services = agent.json(["services"])?;
            let port = &services[0]["ports"][0];
            let reason = explained["reason"].as_str().context("a reason")?;
            ensure!(explained["path"] == path && reason.contains(why), "{explained}");
            ensure!(port["path"] == path && port["why"] == reason, "{port}");
            Ok(())
        })
    };
    takes("kernel", "all instances are captured here")?;
    check("kernel", &rates(&client, "10.96.0.45", "down", "4")?);

    let first = format!("{}:7 isn't captured here", outside.ip4);
    agent.reload(&of(&[&outside, &inside]))?;
    takes("proxy", &first)?;
    check("proxy", &rates(&client, "10.96.0.45", "down", "4")?);

    // The instance starts anew, in a captured cgroup.
    drop(not_captured);
    let moved = Pod { cgroup: world.captured().join("outside"), ..outside.clone() };
    std::fs::create_dir_all(&moved.cgroup)?;
    let captured = sink(&moved)?;
    takes("kernel", "all instances are captured here")?;
    check("kernel again", &rates(&client, "10.96.0.45", "down", "4")?);
    // And is gone again, with its pod.
    drop(captured);
    takes("proxy", &first)
}
