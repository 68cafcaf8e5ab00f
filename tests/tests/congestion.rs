//! Connections that never leave the node aren't paced like those that do.

use anyhow::{Result, ensure};
use mesh_tests::{Agent, Pod, Service, World, server::wait_for_port};

/// Tells each client by which algorithm it is answered; given a name, it has
/// chosen that one itself.
const SERVER: &str = r#"
import socket, sys
listener = socket.create_server(("0.0.0.0", 7))
if len(sys.argv) > 1:
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[1].encode())
while True:
    one, _ = listener.accept()
    try:
        one.sendall(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0"))
        one.recv(1)
    except OSError:
        pass
    one.close()
"#;

/// Prints by which algorithm it asks, and by which it is answered; then those of
/// all connections of this pod with itself, as the agent's are.
const CLIENT: &str = r#"
import re, socket, subprocess, sys
one = socket.create_connection((sys.argv[1], 80), 5)
own = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
print(own, one.recv(100).decode())
shown = subprocess.run(["ss", "-tinH", "dst", "127.0.0.1"], capture_output=True, text=True)
print(*re.findall("bbr|cubic|reno", shown.stdout))
"#;

fn uses(pod: &Pod, algorithm: &str) -> Result<()> {
    pod.shell(&format!("echo {algorithm} > /proc/sys/net/ipv4/tcp_congestion_control"))?;
    Ok(())
}

#[test]
fn what_stays_on_the_node_is_not_paced_by_bbr() -> Result<()> {
    let available = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    if !["bbr", "cubic", "reno"].iter().all(|one| available.split_whitespace().any(|it| it == *one))
    {
        println!("skipped: this kernel has {available}, and the test is about bbr");
        return Ok(());
    }
    let world = World::new("congestion")?;
    let client = world.client("client")?;
    let (near, chosen, far) =
        (world.client("near")?, world.client("chosen")?, world.backend("far")?);
    let all = [&client, &near, &chosen, &far];
    all.iter().try_for_each(|pod| uses(pod, "bbr"))?;
    let service = |name: &str, number: u8, path: &'static str, pod: &Pod| {
        let mut service = Service::new(name, number, ("tcp", path), std::slice::from_ref(pod), 7);
        service.instances.retain(std::net::SocketAddr::is_ipv4);
        service.under("{}")
    };
    let services = [
        service("near", 50, "kernel", &near),
        service("chosen", 51, "kernel", &chosen),
        service("far", 52, "kernel", &far),
        service("proxied", 53, "proxy", &far),
    ];
    let agent = Agent::start(&world, &services.concat())?;
    for pod in [&client, &near, &chosen] {
        agent.wait_for(pod)?;
    }
    let _servers = [
        near.spawn("python3", ["-c", SERVER])?,
        chosen.spawn("python3", ["-c", SERVER, "reno"])?,
        far.spawn("python3", ["-c", SERVER])?,
    ];
    all[1..].iter().try_for_each(|pod| wait_for_port(pod, 7))?;
    let check = |number: u8, what: &str, expected: &str| -> Result<()> {
        let printed = client.run("python3", ["-c", CLIENT, &format!("10.96.0.{number}")])?;
        let printed = printed.trim().replace('\n', ", ");
        ensure!(printed == expected, "{what}: {printed}");
        Ok(())
    };
    check(50, "between pods of the node", "cubic cubic")?;
    check(51, "with an application that has chosen", "cubic reno")?;
    check(52, "to another node", "bbr bbr")?;
    // Both ends of the way to the agent, which goes on as the node's sockets do.
    check(53, "through the agent", "cubic bbr, cubic cubic")
}
