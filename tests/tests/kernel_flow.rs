//! Flow control on the kernel path: new connections per second, and open ones.

use anyhow::{Context as _, Result};
use mesh_tests::{Agent, Pod, Service, World, eventually, server::Echo};

/// Connects to `argv[1]` port 80 for `argv[2]` seconds, over and over, and
/// prints how many connections came about, and the names of all errors.
const KNOCK: &str = r#"
import collections, errno, socket, sys, time
end = time.monotonic() + float(sys.argv[2])
udp = len(sys.argv) > 3
made, errors = 0, collections.Counter()
start = time.monotonic()
while time.monotonic() < end:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as one:
        try:
            if udp:
                one.sendto(b"x", (sys.argv[1], 80))
            else:
                one.connect((sys.argv[1], 80))
            made += 1
        except OSError as error:
            errors[errno.errorcode[error.errno]] += 1
    time.sleep(0.0005)
print(made, time.monotonic() - start, *errors)
"#;

/// What [`KNOCK`] saw.
struct Knocked {
    made: f64,
    seconds: f64,
    errors: Vec<String>,
}

fn knock(client: &Pod, service: &Service, seconds: &str, udp: bool) -> Result<Knocked> {
    let ip = service.ip4().to_string();
    let mut arguments = vec!["-c", KNOCK, &ip, seconds];
    if udp {
        arguments.push("udp");
    }
    knocked(&client.run("python3", arguments)?)
}

fn knocked(printed: &str) -> Result<Knocked> {
    let mut words = printed.split_whitespace();
    let mut number = || words.next().context("a number")?.parse::<f64>().context("a number");
    let (made, seconds) = (number()?, number()?);
    Ok(Knocked { made, seconds, errors: words.map(str::to_owned).collect() })
}

/// How often the hooks decided for this reason.
fn reason(agent: &Agent, name: &str) -> Result<u64> {
    let status = agent.json(["status"])?;
    let reasons = status["reasons"].as_array().context("reasons")?;
    let count = reasons.iter().find(|reason| reason["name"] == name).map(|one| &one["count"]);
    Ok(count.and_then(serde_json::Value::as_u64).unwrap_or(0))
}

#[test]
fn new_connections_keep_to_the_rate_of_the_service_and_of_each_client() -> Result<()> {
    let world = World::new("kflowrate")?;
    let server = world.backend("one")?;
    let _echo = Echo::start(&server)?;
    let (one, two) = (world.client("one-client")?, world.client("two-client")?);
    let service = Service::new("echo", 40, ("tcp", "kernel"), [&server], 7);
    let rate = "requests: 100, per: 1s, burst: 20";
    let agent = Agent::start(&world, &service.under(&format!("{{rateLimit: [{{{rate}}}]}}")))?;
    // 100 per second and the burst; the machine may be slow, never fast.
    let seen = knock(&one, &service, "3", false)?;
    let allowed = 20.0 + 100.0 * seen.seconds;
    assert!((allowed * 0.9..=allowed + 1.0).contains(&seen.made), "{} of {allowed}", seen.made);
    assert_eq!(seen.errors, ["EAGAIN"]);
    assert!(reason(&agent, "rate-limited")? > 0);

    // Each of the two has all of it.
    let by_client = format!("{{rateLimit: [{{{rate}, by: client}}]}}");
    agent.reload(&service.under(&by_client))?;
    let ip = service.ip4().to_string();
    let other = two.spawn("python3", ["-c", KNOCK, &ip, "2"])?;
    let seen = knock(&one, &service, "2", false)?;
    let printed = eventually("the other client to end", || {
        knocked(&other.log()).map(|knocked| (knocked.made, knocked.seconds))
    })?;
    for (made, seconds) in [(seen.made, seen.seconds), printed] {
        let allowed = 20.0 + 100.0 * seconds;
        assert!((allowed * 0.9..=allowed + 1.0).contains(&made), "{made} of {allowed}");
    }

    // A trial refuses nothing.
    let before = reason(&agent, "rate-limited")?;
    agent.reload(&service.under(&format!("{{rateLimit: [{{{rate}, dryRun: true}}]}}")))?;
    let seen = knock(&one, &service, "1", false)?;
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert!(seen.made > 150.0, "{}", seen.made);
    assert_eq!(reason(&agent, "rate-limited")?, before);
    assert!(reason(&agent, "rate-limit-dry-run")? > 0);
    Ok(())
}

#[test]
fn new_flows_of_udp_keep_to_the_rate() -> Result<()> {
    let world = World::new("kflowudp")?;
    let server = world.backend("one")?;
    let _echo = Echo::start(&server)?;
    let client = world.client("client")?;
    let service = Service::new("echo", 41, ("udp", "auto"), [&server], 7);
    let policy = "{rateLimit: [{requests: 100, per: 1s, burst: 20}]}";
    let _agent = Agent::start(&world, &service.under(policy))?;
    let seen = knock(&client, &service, "2", true)?;
    let allowed = 20.0 + 100.0 * seen.seconds;
    assert!((allowed * 0.9..=allowed + 1.0).contains(&seen.made), "{} of {allowed}", seen.made);
    assert_eq!(seen.errors, ["EAGAIN"]);
    Ok(())
}

/// Opens `argv[2]` connections at once, some to a port that never answers the
/// SYN, and prints how many were refused with EAGAIN; then closes one and opens
/// another.
const CROWD: &str = r#"
import errno, socket, sys
address, number = sys.argv[1], int(sys.argv[2])
def open_one():
    one = socket.socket()
    one.setblocking(False)
    code = one.connect_ex((address, 80))
    return one, code
crowd = [open_one() for _ in range(number)]
refused = [one for one, code in crowd if code == errno.EAGAIN]
kept = [one for one, code in crowd if code != errno.EAGAIN]
print(len(kept), len(refused))
kept.pop().close()
print(errno.errorcode[open_one()[1]])
"#;

#[test]
fn open_connections_are_limited_and_syns_count() -> Result<()> {
    let world = World::new("kflowmax")?;
    let server = world.backend("one")?;
    let _echo = Echo::start(&server)?;
    // Packets to the instance vanish: no SYN is ever answered.
    server.shell("ip link set eth0 down")?;
    let client = world.client("client")?;
    let service = Service::new("echo", 42, ("tcp", "kernel"), [&server], 7);
    let policy = "{connections: {max: 10}, timeout: {connect: 20s}}";
    let agent = Agent::start(&world, &service.under(policy))?;
    let seen = client.run("python3", ["-c", CROWD, &service.ip4().to_string(), "40"])?;
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["10 30", "EINPROGRESS"]);
    assert_eq!(reason(&agent, "too-many-connections")?, 30);
    Ok(())
}
