//! Two clouds behind one name: the near one dies bit by bit, and returns.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_tests::eventually_for;

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{self, Report, heading},
    traffic::{Pace, Traffic},
};

const NAMES: [&str; 6] = ["aws-1", "aws-2", "aws-3", "gcp-1", "gcp-2", "gcp-3"];

/// With n of 3 near instances left: what stays near, in percent:
/// min(100, 140 · n / 3), as long as the far ones can carry the rest.
const NEAR: [(usize, f64); 4] = [(3, 100.0), (2, 93.0), (1, 47.0), (0, 0.0)];

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let top = "locality: {cloud: aws, region: eu-west-1, zone: a}\n";
    let mut play = Play::set_up(binaries, &NAMES, top, |_, servers| {
        let all: Vec<_> = (servers.iter())
            .map(|server| {
                let (cloud, region) = match &server.pod.name[..3] {
                    "aws" => ("aws", "eu-west-1"),
                    _ => ("gcp", "europe-west1"),
                };
                let ip = server.pod.ip4;
                format!(
                    "{{address: {ip}, port: 80, locality: {{cloud: {cloud}, region: {region}, zone: a}}}}"
                )
            })
            .collect();
        let endpoints = format!("{{static: [{}]}}", all.join(", "));
        let policy = "{locality: {mode: failover, overprovisioning: 1.4}, \
            failover: {maxEjected: 100%, base: 8s, max: 8s}, slowStart: {window: 2s}}";
        Ok(play::service("shop", 10, ("http", "proxy"), &endpoints, policy)
            + &play::service("shop-tcp", 11, ("tcp", "kernel"), &endpoints, policy))
    })?;
    for (left, expected) in NEAR {
        if let Some(lost) = (left < 3).then(|| 3 - left) {
            let server = &mut play.servers[lost - 1];
            let (name, pid) = (server.pod.name.clone(), server.process.pid());
            report::command("host", &format!("kill -9 {pid}   # {name}"));
            server.process.kill9()?;
            found_out(&play, lost - 1)?;
        }
        check(&play, report, left, expected)?;
    }
    play.ask("explain 10.96.0.10:80")?;
    heading("All return: each as soon as its exile is over and a probe succeeds");
    for server in &mut play.servers[..3] {
        server.restart()?;
    }
    for service in SERVICES {
        let what = format!("all of {service} to be available");
        eventually_for(Duration::from_secs(30), &what, || {
            knock(&play, service);
            let endpoints = play.endpoints(service)?;
            ensure!(endpoints.iter().all(|view| view["state"] == "available"), "{endpoints:?}");
            Ok(())
        })?;
    }
    check(&play, report, 3, 100.0)?;
    Ok(play)
}

const SERVICES: [&str; 2] = ["shop", "shop-tcp"];

/// Requests go on until both paths know.
fn found_out(play: &Play, lost: usize) -> Result<()> {
    let address = format!("{}:80", play.servers[lost].pod.ip4);
    for service in SERVICES {
        eventually_for(Duration::from_secs(30), &format!("{address} to be ejected"), || {
            knock(play, service);
            let endpoints = play.endpoints(service)?;
            let found = endpoints.iter().find(|view| view["address"] == address.as_str());
            ensure!(found.is_some_and(|view| view["state"] == "ejected"), "{found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A request, which fails where nobody knows yet.
fn knock(play: &Play, service: &str) {
    let url = format!("http://{service}/");
    let _ = play.client.run("curl", ["-s", "-m", "2", "-o", "/dev/null", &url]);
}

fn check(play: &Play, report: &mut Report, left: usize, expected: f64) -> Result<()> {
    heading(&format!("{left} of 3 near instances are there"));
    let pace = Pace { rate: 300, threads: 4, seconds: 2, keep: false };
    for (service, path) in SERVICES.into_iter().zip(["proxy", "kernel"]) {
        let samples =
            Traffic::start(&play.client, &format!("http://{service}/"), pace)?.finish()?;
        samples.print_timeline(&NAMES, 2.0);
        // A probe of a dead one is somebody's connection.
        let most = if path == "kernel" { 3 - left } else { 0 };
        let near: f64 = NAMES[..3].iter().map(|name| samples.share(name)).sum();
        report.check(
            &format!("{path} path, {left} of 3 near ones"),
            &format!("{expected:.0} % stay near, {most} failed"),
            &format!("{near:.1} % stay near, {} failed", samples.failed()),
            (near - expected).abs() < 5.0 && samples.failed() <= most,
        );
    }
    Ok(())
}
