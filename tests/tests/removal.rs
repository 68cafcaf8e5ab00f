//! `onRemoval`: what becomes of live connections, of TCP on both paths and of
//! UDP, when their instance is removed or ejected.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use mesh_tests::{
    Agent, Pod, Process, Service, World, eventually,
    server::{Echo, wait_for_port},
};
use nix::sys::signal::Signal;

/// Keeps a connection to `argv[1]`, asks now and then, and prints each answer's
/// sender, or the error that ended it.
const KEEP: &str = r#"
import errno, socket, sys, time
kind = socket.SOCK_STREAM if sys.argv[2] == "tcp" else socket.SOCK_DGRAM
one = socket.socket(socket.AF_INET, kind)
one.settimeout(5)
one.connect((sys.argv[1], 80))
try:
    while True:
        one.send(b"hello\n")
        answer = one.recv(1000)
        print(answer.split()[0].decode() if answer else "END", flush=True)
        if not answer:
            break
        time.sleep(0.05)
except OSError as error:
    print(errno.errorcode.get(error.errno, error), flush=True)
"#;

/// Clients that keep connections to services, four to each: some for each
/// instance.
struct Keepers(Vec<(&'static str, Process)>);

/// Name of a service, its protocol, its path, and what it does.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// The services on these instances, and no others.
fn services(rows: &[Row], instances: &[Pod], more: &str) -> String {
    let rows = rows.iter().zip(50..);
    rows.map(|((name, protocol, path, on_removal), number)| {
        let mut service = Service::new(name, number, (*protocol, *path), instances, 7);
        service.instances.retain(std::net::SocketAddr::is_ipv4);
        service.under(&format!("{{onRemoval: {on_removal}{more}}}"))
    })
    .collect()
}

impl Keepers {
    fn start(client: &Pod, rows: &[Row]) -> Result<Self> {
        let each = rows.iter().zip(50..).flat_map(|row| [(row, 0), (row, 1), (row, 2), (row, 3)]);
        let all = each.map(|(((name, protocol, ..), number), nth)| {
            let mut command = client.command("python3")?;
            command.args(["-c", KEEP, &format!("10.96.0.{number}"), protocol]);
            let log = client.folder.join(format!("{name}-{nth}"));
            Ok((*name, Process::start(name, command, log)?))
        });
        let keepers = Self(all.collect::<Result<_>>()?);
        for (name, ..) in rows {
            for server in ["one", "two"] {
                eventually("both instances to answer", || keepers.of(name, server).map(drop))?;
            }
        }
        Ok(keepers)
    }

    /// What a connection of this service to this instance has seen.
    fn of(&self, name: &str, server: &str) -> Result<String> {
        let logs = self.0.iter().filter(|(of, _)| *of == name).map(|(_, keeper)| keeper.log());
        let mut with = logs.filter(|log| log.starts_with(server));
        with.next().with_context(|| format!("no connection of {name} to {server}"))
    }

    fn ended(&self, name: &str) -> Result<bool> {
        let log = self.of(name, "one")?;
        let last = log.lines().last();
        // A UDP socket that sends next finds itself without a peer.
        Ok(matches!(last, Some("ECONNABORTED" | "ECONNRESET" | "EDESTADDRREQ")))
    }

    fn wait_for_end(&self, name: &str) -> Result<()> {
        eventually("the connection to end", || match self.ended(name)? {
            true => Ok(()),
            false => Err(anyhow!("{name}: {:?}", self.of(name, "one")?.lines().last())),
        })
    }

    /// It has answers still to come.
    fn goes_on(&self, name: &str, server: &str) -> Result<()> {
        let before = self.of(name, server)?.lines().count();
        eventually("another answer", || match self.of(name, server)?.lines().count() {
            now if now > before => Ok(()),
            now => Err(anyhow!("{name} to {server}: {now} answers")),
        })?;
        let log = self.of(name, server)?;
        ensure!(log.lines().all(|line| line == server), "{name}: {log}");
        Ok(())
    }
}

#[test]
fn connections_to_a_removed_instance_are_closed_drained_or_kept() -> Result<()> {
    let world = World::new("gone")?;
    let servers = [world.backend("one")?, world.backend("two")?];
    let _echoes = [Echo::start(&servers[0])?, Echo::start(&servers[1])?];
    let client = world.client("client")?;
    const DRAIN: &str = "\"drain: 3s\"";
    let rows = [
        ("kernel-close", "tcp", "kernel", "close"),
        ("kernel-drain", "tcp", "kernel", DRAIN),
        ("kernel-keep", "tcp", "kernel", "keep"),
        ("proxy-close", "tcp", "proxy", "close"),
        ("proxy-drain", "tcp", "proxy", DRAIN),
        ("proxy-keep", "tcp", "proxy", "keep"),
        ("udp-close", "udp", "auto", "close"),
        ("udp-drain", "udp", "auto", DRAIN),
        ("udp-keep", "udp", "auto", "keep"),
    ];
    let agent = Agent::start(&world, &services(&rows, &servers, ""))?;
    agent.wait_for(&client)?;
    let keepers = Keepers::start(&client, &rows)?;
    let removed = Instant::now();
    agent.reload(&services(&rows, &servers[1..], ""))?;
    for name in ["kernel-close", "proxy-close", "udp-close"] {
        keepers.wait_for_end(name)?;
    }
    for name in ["kernel-drain", "proxy-drain", "udp-drain"] {
        let before = keepers.ended(name)?;
        if removed.elapsed() < Duration::from_secs(3) {
            ensure!(!before, "{name} ended early: {}", keepers.of(name, "one")?);
        }
    }
    for name in ["kernel-drain", "proxy-drain", "udp-drain"] {
        keepers.wait_for_end(name)?;
    }
    ensure!(removed.elapsed() >= Duration::from_secs(3), "{:?}", removed.elapsed());
    // What stays, and whoever is there still, is left alone.
    for name in ["kernel-keep", "proxy-keep", "udp-keep"] {
        keepers.goes_on(name, "one")?;
    }
    for (name, ..) in rows {
        keepers.goes_on(name, "two")?;
    }
    // Who keeps from now on has lost nobody.
    let kept = rows.map(|(name, protocol, path, _)| (name, protocol, path, "keep"));
    agent.reload(&services(&kept, &servers[1..], ""))?;
    for (name, ..) in rows.iter().chain(&rows) {
        keepers.goes_on(name, "two")?;
    }
    Ok(())
}

/// Echoes lines over TCP with its name, and takes no more connections from the
/// signal on.
const ECHO: &str = r#"
import os, signal, socket, sys, threading
def serve(connection):
    with connection, connection.makefile("rwb") as stream:
        for line in stream:
            stream.write(sys.argv[1].encode() + b" " + line)
            stream.flush()
server = socket.create_server(("0.0.0.0", 7), backlog=1024)
signal.signal(signal.SIGUSR1, lambda *_: server.close())
while True:
    try:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
    except OSError:
        signal.pause()
"#;

/// Connects to all of these until the end.
const KNOCK: &str = r#"
import socket, sys, time
while True:
    for address in sys.argv[1:]:
        one = socket.socket()
        one.settimeout(2)
        try:
            one.connect((address, 80))
        except OSError:
            pass
        one.close()
    time.sleep(0.01)
"#;

/// An instance that takes no new connections is ejected: those that it has are
/// well, and live or not as `onRemoval` says.
#[test]
fn connections_to_an_ejected_instance_are_closed_drained_or_kept() -> Result<()> {
    let world = World::new("ejected")?;
    let pods = [world.backend("one")?, world.backend("two")?];
    let servers = pods.each_ref().map(|pod| {
        let server = pod.spawn("python3", ["-c", ECHO, &pod.name])?;
        wait_for_port(pod, 7)?;
        anyhow::Ok(server)
    });
    let [one, _two] = servers;
    let one = one?;
    let client = world.client("client")?;
    let rows = [
        ("kernel-close", "tcp", "kernel", "close"),
        ("kernel-drain", "tcp", "kernel", "\"drain: 1s\""),
        ("kernel-keep", "tcp", "kernel", "keep"),
        ("proxy-close", "tcp", "proxy", "close"),
        ("proxy-drain", "tcp", "proxy", "\"drain: 1s\""),
        ("proxy-keep", "tcp", "proxy", "keep"),
    ];
    let agent = Agent::start(&world, &services(&rows, &pods, ", failover: {base: 60s}"))?;
    agent.wait_for(&client)?;
    let keepers = Keepers::start(&client, &rows)?;
    one.signal(Signal::SIGUSR1)?;
    let addresses: Vec<_> = (50..50 + rows.len()).map(|n| format!("10.96.0.{n}")).collect();
    let arguments = ["-c", KNOCK].into_iter().chain(addresses.iter().map(String::as_str));
    let _knocking = client.spawn("python3", arguments)?;
    eventually("the instance to be ejected from all", || {
        let endpoints = agent.json(["endpoints"])?;
        let all = endpoints.as_array().into_iter().flatten();
        let ejected = all.filter(|view| view["state"] == "ejected").count();
        ensure!(ejected == rows.len(), "{ejected}: {endpoints}");
        Ok(())
    })?;
    for name in ["kernel-close", "kernel-drain", "proxy-close", "proxy-drain"] {
        keepers.wait_for_end(name)?;
    }
    for name in ["kernel-keep", "proxy-keep"] {
        keepers.goes_on(name, "one")?;
    }
    for (name, ..) in rows {
        keepers.goes_on(name, "two")?;
    }
    Ok(())
}
