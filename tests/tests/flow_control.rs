//! Limits of the proxy path, under load from real clients. Numbers are
//! generous: exact ones stand in the agent's own tests, on a paused clock.

use std::{collections::BTreeMap, thread};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Service, World, example, server::Nginx, server::wait_for_port};

fn http(number: u8, name: &str, pod: &Pod) -> Service {
    Service::new(name, number, ("http", "proxy"), [pod], 80)
}

/// Statuses of the answers to so many requests, with how often each came.
fn statuses(pod: &Pod, service: &Service, times: usize, more: &[&str]) -> Result<Statuses> {
    let url = format!("http://{}/?[1-{times}]", service.ip4());
    let mut arguments = vec!["-s", "-o", "/dev/null", "-w", "%{http_code}\\n", &url];
    arguments.extend(more);
    let printed = pod.run("curl", arguments)?;
    let mut counts = Statuses::new();
    for status in printed.lines() {
        *counts.entry(status.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

type Statuses = BTreeMap<String, usize>;

fn counts<const N: usize>(pairs: [(&str, usize); N]) -> Statuses {
    pairs.into_iter().map(|(status, count)| (status.to_owned(), count)).collect()
}

/// The value of a metric's one line that has all of these parts.
fn metric(agent: &Agent, parts: &[&str]) -> Result<f64> {
    let mut command = std::process::Command::new("curl");
    let page = command.args(["-s", &format!("http://{}/metrics", agent.http())]).output()?;
    let page = String::from_utf8(page.stdout)?;
    let line = page.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| page.clone())?;
    Ok(value.parse()?)
}

#[test]
fn rates() -> Result<()> {
    let world = World::new("rates")?;
    let server = Nginx::start(&world.backend("one")?)?;
    let grpc_pod = world.backend("two")?;
    let peer = example("grpc")?.to_str().context("the path of this program")?.to_owned();
    let _grpc = grpc_pod.spawn(&peer, ["server", "two", "50051"])?;
    wait_for_port(&grpc_pod, 50051)?;
    let (client, other) = (world.client("client")?, world.client("other")?);
    let names = ["load", "dry", "each", "user"];
    let [load, dry, each, user] =
        std::array::from_fn(|index| http(20 + index as u8, names[index], &server.pod));
    let grpc = Service::new("grpc", 30, ("grpc", "proxy"), [&grpc_pod], 50051);
    let tcp = Service::new("tcp", 31, ("tcp", "proxy"), [&server.pod], 80);
    let slow = "rateLimit: {requests: 5, per: 10m, burst: 5, ";
    let services = [
        load.under("{rateLimit: {requests: 100, per: 1s, burst: 20}}"),
        dry.under(&format!("{{{slow}dryRun: true}}}}")),
        each.under(&format!("{{{slow}by: client}}}}")),
        user.under(&format!("{{{slow}by: \"header:x-user\"}}}}")),
        grpc.under(&format!("{{{slow}by: service}}}}")),
        tcp.under(&format!("{{{slow}by: client}}}}")),
    ];
    let agent = Agent::start(&world, &services.concat())?;
    agent.wait_for(&client)?;
    agent.wait_for(&other)?;

    // Heavy load: the burst, and a hundred in each second.
    let url = format!("http://{}/", load.ip4());
    let printed = client.run("wrk", ["-t1", "-c8", "-d4s", &url])?;
    let number = |after: &str| -> Option<f64> {
        let line = printed.lines().find(|line| line.contains(after))?;
        line.split_whitespace().find_map(|word| word.parse().ok())
    };
    let all = number(" requests in ").context("wrk's total")?;
    let refused = printed.lines().find(|line| line.contains("Non-2xx")).context("refusals")?;
    let refused: f64 = refused.rsplit(' ').next().unwrap_or("").parse()?;
    let passed = all - refused;
    let took =
        printed.lines().find_map(|line| line.split_once(" requests in ")?.1.split_once("s,"));
    let seconds: f64 = took.context("wrk's time")?.0.parse()?;
    let due = 20.0 + 100.0 * seconds;
    eprintln!("{passed} of {due} passed");
    // A machine that stalls loses some of what was due; none gets more.
    ensure!((0.95 * due..=1.01 * due).contains(&passed), "{passed} of {due} passed:\n{printed}");
    let counted = metric(&agent, &["mesh_over_limit_total", "\"load\"", "rate-limited"])?;
    ensure!(counted >= refused, "{counted} counted of {refused}");

    // What the headers say.
    let head = client.run("curl", ["-s", "-i", &format!("http://{}/", each.ip4())])?;
    let head = head.to_lowercase();
    ensure!(head.contains("x-ratelimit-limit: 5\r\nx-ratelimit-remaining: 4\r\n"), "{head}");
    assert_eq!(statuses(&client, &each, 10, &[])?, counts([("200", 4), ("429", 6)]));
    assert_eq!(statuses(&other, &each, 10, &[])?, counts([("200", 5), ("429", 5)]));

    assert_eq!(statuses(&client, &dry, 20, &[])?, counts([("200", 20)]));
    assert_eq!(metric(&agent, &["mesh_rate_limit_dry_run_total", "\"dry\""])?, 15.0);

    for name in ["x-user: anna", "x-user: bert", "other: none"] {
        let seen = statuses(&client, &user, 8, &["-H", name])?;
        assert_eq!(seen, counts([("200", 5), ("429", 3)]), "{name}");
    }

    let [authority, _] = grpc.authorities();
    let printed = client.run(&peer, ["check", &authority, "", "10", "1"])?;
    ensure!(printed.contains("5 ResourceExhausted"), "{printed}");

    // Connections, one for each request; those over the limit are reset.
    let once = ["-H", "Connection: close"];
    let seen = statuses(&client, &tcp, 8, &once).unwrap_or_default();
    ensure!(seen.get("200").is_none_or(|count| *count == 5), "{seen:?}");
    assert_eq!(metric(&agent, &["mesh_over_limit_total", "\"tcp\"", "rate-limited"])?, 3.0);
    Ok(())
}

/// Downloads over `argv[2]` connections for `argv[3]` seconds after the first,
/// and prints bytes per second of all, and of the one that got least.
const DOWNLOAD: &str = r"
import socket, sys, threading, time

address, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
start = time.monotonic() + 1
got = [0] * count

def run(index):
    connection = socket.create_connection((address, 80), 10)
    connection.sendall(b'GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n')
    while True:
        read = len(connection.recv(65536))
        now = time.monotonic()
        if now > start + seconds or not read: return
        if now > start: got[index] += read

threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(got) / seconds, min(got) / seconds)
";

#[test]
fn bandwidth_is_held_and_shared() -> Result<()> {
    let world = World::new("bandwidth")?;
    let server = Nginx::start(&world.backend("one")?)?;
    server.serve("big", &vec![b'x'; 64 * 1024 * 1024])?;
    let client = world.client("client")?;
    let cases: Vec<_> =
        [("tcp", 1), ("tcp", 4), ("tcp", 32), ("http", 1), ("http", 4), ("http", 32)]
            .into_iter()
            .enumerate()
            .map(|(index, (protocol, count))| {
                let name = format!("{protocol}{count}");
                let way = (protocol, "proxy");
                (Service::new(&name, 20 + index as u8, way, [&server.pod], 80), count)
            })
            .collect();
    let policy = "{bandwidth: {download: 1MiB}}";
    let services: String = cases.iter().map(|(service, _)| service.under(policy)).collect();
    let agent = Agent::start(&world, &services)?;
    agent.wait_for(&client)?;
    let client = &client;
    let printed = thread::scope(|scope| {
        let runs: Vec<_> = cases
            .iter()
            .map(|(service, count)| {
                scope.spawn(move || {
                    let (address, count) = (service.ip4().to_string(), count.to_string());
                    client.run("python3", ["-c", DOWNLOAD, &address, &count, "3"])
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?;
    for ((service, count), line) in cases.iter().zip(printed) {
        let numbers: Vec<f64> =
            line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [total, least] = numbers[..] else { anyhow::bail!("{line}") };
        let limit = 1024.0 * 1024.0;
        eprintln!(
            "{}: {:.3} of the limit, least {:.3} of its share",
            service.name,
            total / limit,
            least / (limit / f64::from(*count))
        );
        ensure!((0.9..=1.05).contains(&(total / limit)), "{}: {line}", service.name);
        ensure!(least > 0.5 * limit / f64::from(*count), "{}: unfair: {line}", service.name);
    }
    Ok(())
}

/// Four workers, ten milliseconds for each request.
const SERVER: &str = r"
import asyncio

workers = asyncio.Semaphore(4)

async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b'\r\n\r\n')
            async with workers:
                await asyncio.sleep(0.01)
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, '0.0.0.0', 80, backlog=1024)
    await server.serve_forever()

asyncio.run(main())
";

/// `argv[2]` clients for `argv[3]` seconds after the first two; one that is
/// refused waits for 20 ms. Prints the rate of accepted requests, and their
/// median and 99th percentile, ms.
const OVERLOAD: &str = r"
import asyncio, sys, time

address, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
start = time.monotonic() + 2
times = []
refused = 0

async def run():
    global refused
    reader, writer = await asyncio.open_connection(address, 80)
    while True:
        sent = time.monotonic()
        if sent > start + seconds: return
        writer.write(b'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
        head = await reader.readuntil(b'\r\n\r\n')
        length = int(head.lower().split(b'content-length: ')[1].split(b'\r\n')[0])
        await reader.readexactly(length)
        took = time.monotonic() - sent
        if head.startswith(b'HTTP/1.1 200'):
            if sent > start: times.append(took)
        else:
            assert b'x-mesh-error: overloaded' in head and b'retry-after: 1' in head, head
            refused += 1
            await asyncio.sleep(0.02)

async def main():
    await asyncio.gather(*(run() for _ in range(count)))
    times.sort()
    of = lambda share: times[int((len(times) - 1) * share)] * 1000
    print(len(times) / seconds, of(0.5), of(0.99), refused)

asyncio.run(main())
";

#[test]
fn adaptive_concurrency_keeps_responses_fast() -> Result<()> {
    let world = World::new("adaptive")?;
    let server = world.backend("one")?;
    let _server = server.spawn("python3", ["-c", SERVER])?;
    wait_for_port(&server, 80)?;
    let client = world.client("client")?;
    let mut service = http(20, "web", &server);
    service.instances.retain(std::net::SocketAddr::is_ipv4);
    let agent = Agent::start(&world, &service.under("{adaptiveConcurrency: {}}"))?;
    agent.wait_for(&client)?;
    let run = |count: &str| -> Result<[f64; 4]> {
        let address = service.ip4().to_string();
        let line = client.run("python3", ["-c", OVERLOAD, &address, count, "3"])?;
        let numbers: Vec<f64> =
            line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        numbers.try_into().map_err(|_| anyhow::anyhow!("{line}"))
    };
    let [_, _, unloaded, _] = run("1")?;
    let [goodput, median, p99, refused] = run("80")?;
    eprintln!(
        "unloaded p99 {unloaded:.1} ms; overload: {goodput:.0}/s, p50 {median:.1} ms, \
        p99 {p99:.1} ms, {refused} refused"
    );
    ensure!(refused > 100.0, "no overload: {refused} refused");
    ensure!(median < 5.0 * unloaded, "p50 {median} ms, unloaded p99 {unloaded} ms");
    ensure!(goodput > 100.0, "{goodput} requests per second");
    let limit = metric(&agent, &["mesh_instance_concurrency_limit", "\"web\""])?;
    ensure!((3.0..40.0).contains(&limit), "limit {limit}");
    Ok(())
}
