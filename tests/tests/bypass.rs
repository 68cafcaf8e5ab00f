//! Payload goes past TCP where the policy says so, between two captured pods of
//! one node and between them and the agent, and applications don't notice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Agent, Pod, Process, Service, World, eventually, eventually_for,
    server::{Nginx, wait_for_port},
};

/// Does what the first line asks for, see [`CLIENT`].
const SERVER: &str = r#"
import fcntl, hashlib, socket, struct, termios, threading, time
def serve(one):
    order = b""
    while not order.endswith(b"\n"): order += one.recv(1)
    match order.split():
        case [b"echo"]:
            while data := one.recv(1 << 16): one.sendall(data)
        case [b"sleep"]:
            # What it is told to wait for comes, and is all there is to say.
            time.sleep(2)
            waiting = struct.unpack("i", fcntl.ioctl(one, termios.FIONREAD, b"\0" * 4))[0]
            digest, got = hashlib.sha256(), 0
            while data := one.recv(1 << 20): digest.update(data); got += len(data)
            one.sendall(f"{waiting} {got} {digest.hexdigest()}".encode())
        case [b"count"]:
            got = 0
            while got < 50000: got += len(one.recv(1 << 16))
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
            one.sendall(str(struct.unpack_from("Q", info, 128)[0]).encode())
        case [b"reset"]:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case [b"push"]:
            # Before it is asked for anything more.
            one.sendall(b"p" * 100000)
            one.shutdown(socket.SHUT_WR)
            while one.recv(1 << 16): pass
    one.close()
open("/proc/sys/net/ipv4/tcp_fastopen", "w").write("3")
listener = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
while True: threading.Thread(target=serve, args=(listener.accept()[0],)).start()
"#;

/// What clients have in common: who to ask, and what TCP has carried for it.
const CLIENT: &str = r#"
import hashlib, os, socket, struct, sys, time
def ask(order, address=sys.argv[1]):
    one = socket.create_connection((address, 80), 5)
    one.settimeout(20)
    one.sendall(order + b"\n")
    return one
def rest(one):
    got = b""
    while data := one.recv(1 << 16): got += data
    return got
def by_tcp(one):
    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
    return struct.unpack_from("Q", info, 120)[0] - 1, struct.unpack_from("Q", info, 128)[0]
def until(one, state):
    while one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != state: time.sleep(0.001)
"#;

struct Stage {
    agent: Agent,
    client: Pod,
    past: Service,
    plain: Service,
    proxied: Service,
    server: Pod,
    _process: Process,
    world: World,
}

impl Stage {
    fn set_up(name: &str) -> Result<Self> {
        let world = World::new(name)?;
        let (client, server) = (world.client("client")?, world.client("server")?);
        let process = server.spawn("python3", ["-c", SERVER])?;
        wait_for_port(&server, 7)?;
        let service = |name: &str, number: u8, path: &'static str| {
            Service::new(name, number, ("tcp", path), std::slice::from_ref(&server), 7)
        };
        let plain = service("plain", 50, "kernel");
        let past = service("past", 51, "kernel");
        let proxied = service("proxied", 52, "proxy");
        let policy = "{bypass: true, failover: {consecutiveFailures: {responses: 2}, base: 1m}}";
        let services =
            [plain.to_string(), past.under(policy), proxied.under("{bypass: true}")].concat();
        let agent = Agent::start(&world, &services)?;
        agent.wait_for(&client)?;
        Ok(Self { agent, client, past, plain, proxied, server, _process: process, world })
    }

    fn python(&self, service: &Service, script: &str) -> Result<String> {
        self.to(&service.ip4().to_string(), script)
    }

    fn to(&self, address: &str, script: &str) -> Result<String> {
        let script = format!("{CLIENT}{script}");
        self.client.run("python3", ["-c", &script, address])
    }
}

/// Prints how many bytes TCP has carried, there and back.
const ECHO: &str = r#"
one = ask(b"echo")
for size in 1, 1000, 40000:
    sent = os.urandom(size)
    one.sendall(sent)
    got = b""
    while len(got) < size: got += one.recv(1 << 16)
    assert got == sent
print(*by_tcp(one))
"#;

#[test]
fn payload_goes_past_tcp_where_the_policy_says_so() -> Result<()> {
    let stage = Stage::set_up("bypass")?;
    ensure!(stage.python(&stage.plain, ECHO)?.trim() == "41006 41001");
    for service in [&stage.past, &stage.proxied] {
        for address in [service.ip4().to_string(), service.ip6().to_string()] {
            // A client that is faster than the other end stays on TCP.
            eventually("all past TCP", || {
                let carried = stage.to(&address, ECHO)?;
                ensure!(carried.trim() == "0 0", "{} by {address}: {carried}", service.name);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Prints how many bytes TCP has carried to the instance, of 50,000.
const COUNT: &str = r#"
one = ask(b"count")
one.sendall(b"x" * 50000)
print(rest(one).decode())
"#;

#[test]
fn from_the_agent_to_the_instance_as_well() -> Result<()> {
    let stage = Stage::set_up("bypass-upstream")?;
    let counted = || stage.python(&stage.proxied, COUNT);
    eventually("all past TCP", || {
        ensure!(counted()?.trim() == "0");
        Ok(())
    })?;
    // The same where the hooks of the pods see the agent's sockets too, as they
    // do on Kubernetes.
    let config = stage.world.folder().join("mesh.yaml");
    let [captured, all] = [stage.world.captured(), stage.world.cgroup().to_owned()]
        .map(|path| path.display().to_string());
    let text = stage.agent.config()?;
    ensure!(text.contains(&captured), "{text}");
    std::fs::write(config, text.replace(&captured, &all))?;
    stage.agent.ask(["reload"])?;
    let hooks = stage.agent.ask(["status"])?;
    ensure!(hooks.contains(&all) && !hooks.contains(&captured), "{hooks}");
    eventually("all past TCP", || {
        ensure!(counted()?.trim() == "0");
        ensure!(stage.python(&stage.proxied, ECHO)?.trim() == "0 0");
        Ok(())
    })
}

/// Sends before there is a connection: by TCP, and more than goes at once. What
/// is sent next mustn't overtake it. Prints whether anything went with the SYN,
/// which takes a cookie of the last time.
const EARLY: &str = r#"
for _ in range(2):
    one = socket.socket()
    early = os.urandom(16 << 20)
    order = b"sleep\n"
    sent = one.sendto(order + early, socket.MSG_FASTOPEN, (sys.argv[1], 80))
    assert sent == len(order + early), sent
    one.settimeout(20)
    one.sendall(b"late")
    # TCPI_OPT_SYN_DATA
    with_syn = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)[5] & 32 != 0
    one.shutdown(socket.SHUT_WR)
    _, got, digest = rest(one).decode().split()
    assert digest == hashlib.sha256(early + b"late").hexdigest(), got
    print(with_syn)
"#;

#[test]
fn what_is_sent_before_the_connection_is_not_overtaken() -> Result<()> {
    let stage = Stage::set_up("bypass-early")?;
    for service in [&stage.past, &stage.plain, &stage.proxied] {
        let printed = stage.python(service, EARLY).with_context(|| service.name.clone())?;
        // The agent gives no cookies.
        let with_syn = if service.name == "proxied" { "False" } else { "True" };
        let last = printed.split_whitespace().last();
        ensure!(last == Some(with_syn), "{}: {printed}", service.name);
    }
    Ok(())
}

/// Gives itself the addresses of two pods, in a network namespace of its own, and
/// calls the service. Prints how much was sent, by TCP.
const IMPOSTOR: &str = r#"
import subprocess
client, instance = sys.argv[2:]
for order in "link set lo up", f"address add {client} dev lo", f"address add {instance} dev lo":
    subprocess.run(["ip", *order.split()], check=True)
listener = socket.create_server((instance, 7))
one = socket.create_connection((sys.argv[1], 80), 5, source_address=(client, 0))
other = listener.accept()[0]
one.sendall(b"x" * 1000)
got = b""
while len(got) < 1000: got += other.recv(1000)
print(by_tcp(one)[0])
"#;

#[test]
fn addresses_of_others_are_of_no_use() -> Result<()> {
    let stage = Stage::set_up("bypass-impostor")?;
    let script = format!("{CLIENT}{IMPOSTOR}");
    let addresses =
        [stage.past.ip4().to_string(), stage.client.ip4.to_string(), stage.server.ip4.to_string()];
    let arguments = ["--net", "python3", "-c", &script].into_iter();
    let sent =
        (stage.client).run("unshare", arguments.chain(addresses.iter().map(String::as_str)))?;
    ensure!(sent.trim() == "1000", "{sent}");
    Ok(())
}

#[test]
fn the_agent_tells_of_what_goes_past_tcp() -> Result<()> {
    let stage = Stage::set_up("bypass-shown")?;
    let hold = format!("{ECHO}time.sleep(60)\n");
    let address = stage.past.ip4().to_string();
    let script = format!("{CLIENT}{hold}");
    let _held = stage.client.spawn("python3", ["-c", &script, address.as_str()])?;
    eventually("the connection, with its bytes", || {
        let all = stage.agent.json(["connections"])?;
        let one = all.as_array().and_then(|all| all.first()).context("none is shown")?.clone();
        ensure!(one["pastTcp"] == true && one["bytesSent"] == 41006, "{one}");
        ensure!(one["bytesReceived"] == 41001, "{one}");
        Ok(())
    })?;
    let shown = stage.agent.ask(["connections"])?;
    ensure!(shown.contains("\nbypass "), "{shown}");
    Ok(())
}

/// Prints what it could send to one that doesn't read, and what that one got.
const FLOOD: &str = r#"
one = ask(b"sleep")
one.setblocking(False)
digest, sent, end = hashlib.sha256(), 0, time.monotonic() + 1
while time.monotonic() < end:
    piece = os.urandom(60000)
    try:
        taken = one.send(piece)
        digest.update(piece[:taken]); sent += taken
    except BlockingIOError: time.sleep(0.01)
one.settimeout(20); one.shutdown(socket.SHUT_WR)
waiting, got, theirs = rest(one).split()
print(sent, got.decode(), theirs.decode() == digest.hexdigest(), int(waiting))
"#;

#[test]
fn who_sends_to_one_that_does_not_read_has_to_wait() -> Result<()> {
    const MIB: u64 = 1 << 20;
    let stage = Stage::set_up("bypass-flood")?;
    for service in [&stage.past, &stage.proxied] {
        let printed = stage.python(service, FLOOD)?;
        let words: Vec<_> = printed.split_whitespace().collect();
        let [sent, got, same, waiting] = words[..] else { anyhow::bail!("{printed}") };
        ensure!(sent == got && same == "True", "{}: {printed}", service.name);
        let (sent, waiting): (u64, u64) = (sent.parse()?, waiting.parse()?);
        // What TCP itself lets wait is added to what may wait past it.
        ensure!((MIB..32 * MIB).contains(&sent), "{}: {printed}", service.name);
        // FIONREAD tells of what came on either way.
        let proxied = service.name == "proxied";
        ensure!(proxied || waiting > 4 * MIB, "{}: {printed}", service.name);
    }
    Ok(())
}

/// Prints what is seen of ends.
const ENDS: &str = r#"
one = ask(b"push")
one.shutdown(socket.SHUT_WR)
try: one.send(b"late"); print("sent after its own end")
except BrokenPipeError: pass
print(len(rest(one)))
one = ask(b"echo")
one.sendall(b"x" * 50000)
one.shutdown(socket.SHUT_WR)
print(len(rest(one)))
one = ask(b"reset")
time.sleep(0.2)
try: print(one.recv(1))
except ConnectionResetError: print("reset")
"#;

#[test]
fn ends_are_seen_as_they_are() -> Result<()> {
    let stage = Stage::set_up("bypass-ends")?;
    for service in [&stage.past, &stage.plain, &stage.proxied] {
        let printed = stage.python(service, ENDS)?;
        ensure!(
            printed.split_whitespace().eq(["100000", "50000", "reset"]),
            "{}: {printed}",
            service.name
        );
    }
    Ok(())
}

/// Reads what came on a connection that has ended, while the next one between the
/// same addresses is in use. Prints how many bytes TCP has carried for the first.
const REUSE: &str = r#"
CLOSE, CLOSE_WAIT = 7, 8
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write("40000 40000")
open("/proc/sys/net/ipv4/tcp_max_tw_buckets", "w").write("0")
first = ask(b"push")
until(first, CLOSE_WAIT)
first.shutdown(socket.SHUT_WR)
until(first, CLOSE)
again = ask(b"echo")
again.sendall(b"again")
assert again.recv(5) == b"again"
assert rest(first) == b"p" * 100000
assert again.getsockname()[1] == 40000
again.sendall(b"and again")
assert again.recv(9) == b"and again"
print(*by_tcp(first))
"#;

#[test]
fn what_has_come_is_there_until_it_is_read() -> Result<()> {
    let stage = Stage::set_up("bypass-unread")?;
    for address in [stage.past.ip4().to_string(), stage.past.ip6().to_string()] {
        eventually("it is past TCP", || {
            let carried = stage.to(&address, REUSE)?;
            // The two ends, which count as a byte each.
            ensure!(carried.trim() == "1 1", "by {address}: {carried}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Holds ten connections to each, of which a byte has come back.
const HOLD: &str = r#"
held = [ask(b"echo", address) for address in sys.argv[1:] for _ in range(10)]
for one in held:
    one.sendall(b"x")
    one.recv(1)
print("held", flush=True)
time.sleep(600)
"#;

#[test]
fn what_ends_unseen_leaves_no_trace() -> Result<()> {
    let stage = Stage::set_up("bypass-unseen")?;
    let pairs = || -> Result<u64> {
        let status = stage.agent.json(["status"])?;
        let maps = status["maps"].as_array().cloned().unwrap_or_default();
        let map = maps.iter().find(|map| map["name"] == "PAIRS").context("no such map")?;
        map["used"].as_u64().context("not a number")
    };
    let script = format!("{CLIENT}{HOLD}");
    let (past, proxied) = (stage.past.ip4().to_string(), stage.proxied.ip4().to_string());
    let mut client = stage.client.spawn("python3", ["-c", &script, &past, &proxied])?;
    eventually("all connections", || {
        ensure!(client.log().contains("held"), "{}", client.log());
        Ok(())
    })?;
    ensure!(pairs()? >= 20);
    // Without its hooks nobody sees the end of a connection.
    let status = stage.agent.json(["status"])?;
    for hook in status["hooks"].as_array().cloned().unwrap_or_default() {
        std::fs::remove_file(hook["pinned"].as_str().unwrap_or_default())?;
    }
    client.kill9()?;
    eventually_for(Duration::from_secs(60), "no pairs", || {
        let left = pairs()?;
        ensure!(left == 0, "{left}");
        Ok(())
    })
}

#[test]
fn an_instance_that_resets_is_ejected_though_tcp_saw_no_request() -> Result<()> {
    let stage = Stage::set_up("bypass-ejection")?;
    let reset =
        "one = ask(b'reset')\ntry: one.recv(1)\nexcept ConnectionResetError: print('reset')\n";
    for _ in 0..2 {
        ensure!(stage.python(&stage.past, reset)?.trim() == "reset");
    }
    eventually("the instance to be ejected", || {
        let all = stage.agent.json(["endpoints", "past"])?;
        ensure!(all.to_string().contains("ejected"), "{all}");
        Ok(())
    })
}

#[test]
fn requests_of_every_version_go_past_tcp_to_the_agent() -> Result<()> {
    let world = World::new("bypass-http")?;
    let (client, server) = (world.client("client")?, world.backend("server")?);
    let _nginx = Nginx::start(&server)?;
    let [http, http2] = [("http", 40, 80), ("http2", 41, 81)].map(|(protocol, number, port)| {
        let pods = std::slice::from_ref(&server);
        Service::new(protocol, number, (protocol, "proxy"), pods, port)
    });
    let services = [&http, &http2].map(|service| service.under("{bypass: true}")).concat();
    let agent = Agent::start(&world, &services)?;
    agent.wait_for(&client)?;
    let file = client.file("content", vec![b'm'; 3_000_000])?;
    let file = file.to_str().context("a path of letters")?;
    for (service, version) in [(&http, "--http1.1"), (&http2, "--http2-prior-knowledge")] {
        let url = format!("http://{}/files/content-{version}", service.ip4());
        client.curl([version, "-T", file, &url])?;
        let back = client.curl([version, &url])?;
        ensure!(back.len() == 3_000_000, "{version}: {} bytes", back.len());
    }
    let script = format!("{CLIENT}{GET}");
    let printed = client.run("python3", ["-c", &script, &http.ip4().to_string()])?;
    ensure!(printed.trim() == "b'HTTP/1.1 200 OK' 0 0", "{printed}");
    Ok(())
}

/// Prints a status line, and what TCP has carried of the exchange.
const GET: &str = r#"
one = socket.create_connection((sys.argv[1], 80), 5)
one.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
got = one.recv(1 << 16)
print(got.split(b"\r\n")[0], *by_tcp(one))
"#;
