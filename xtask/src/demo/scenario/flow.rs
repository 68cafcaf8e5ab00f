//! Limits: how many requests, how many bytes, how much at a time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mesh_tests::{Overload, server::Mood};

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{self, Report, heading},
    traffic::{Pace, Samples, Traffic},
};

/// Workers of the server, and what each request takes it.
const WORKERS: u32 = 4;
const WORK: Duration = Duration::from_millis(10);
/// Where one with exactly these listens.
const BUSY_PORT: u16 = 81;
/// Requests per second: ten times as many as it can serve.
const ASKED: u32 = 10 * WORKERS * 100;

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let play = set_up(binaries)?;
    for (service, path) in [("rate", "proxy"), ("rate-tcp", "kernel")] {
        rate(&play, report, service, path)?;
    }
    for (service, path) in [("bandwidth", "proxy"), ("bandwidth-kernel", "kernel")] {
        bandwidth(&play, report, service, path)?;
    }
    adaptive(&play, report)?;
    Ok(play)
}

pub fn set_up(binaries: &Binaries) -> Result<Play> {
    Play::set_up(binaries, &["shop-1"], "", |_, servers| {
        let endpoints = play::fixed(servers);
        let busy = endpoints.replace("port: 80", &format!("port: {BUSY_PORT}"));
        let adaptive = "{adaptiveConcurrency: {}}";
        let http = ("http", "proxy");
        let rate = "{rateLimit: {requests: 100, per: 1s, burst: 20}}";
        Ok(play::service("rate", 10, http, &endpoints, rate)
            + &play::service("rate-tcp", 11, ("tcp", "kernel"), &endpoints, rate)
            + &play::service("plain", 12, http, &endpoints, "{}")
            + &play::service("limited", 13, http, &endpoints, adaptive)
            + &play::service("adaptive", 16, http, &busy, adaptive)
            + &play::service("adaptive-tcp", 17, ("tcp", "kernel"), &busy, adaptive)
            + &play::service(
                "bandwidth",
                14,
                ("tcp", "proxy"),
                &endpoints,
                "{bandwidth: {upload: 4MiB}}",
            )
            + &play::service(
                "bandwidth-kernel",
                15,
                ("tcp", "kernel"),
                &endpoints,
                "{bandwidth: {upload: 4MiB}}",
            ))
    })
}

fn rate(play: &Play, report: &mut Report, service: &str, path: &str) -> Result<()> {
    heading(&format!("100 requests per second and a burst of 20, {path} path, asked for 400/s"));
    let pace = Pace { rate: 400, threads: 8, seconds: 5, keep: false };
    let samples = Traffic::start(&play.client, &format!("http://{service}/"), pace)?.finish()?;
    for (what, count) in samples.counts() {
        println!("  {count:5} {what}");
    }
    let passed = samples.answered();
    report.check(
        &format!("{path} path, requests let through in 5 s"),
        "520 ± 5 %",
        &passed.to_string(),
        (494..=546).contains(&passed),
    );
    Ok(())
}

fn bandwidth(play: &Play, report: &mut Report, service: &str, path: &str) -> Result<()> {
    heading(&format!("4 MiB/s upwards, {path} path: 20 MiB over 4 connections"));
    let line = format!(
        "head -c 5242880 /dev/zero >up; for n in 1 2 3 4; do \
         curl -sS -m 30 -o /dev/null -w '%{{time_total}}\\n' -H Expect: --data-binary @up http://{service}/ & \
         done; wait"
    );
    report::command(&play.client.name, &line);
    let folder = play.client.folder.display();
    let times = play.client.shell(&format!("cd {folder}; {line}"))?;
    let times: Vec<f64> = times.lines().filter_map(|line| line.parse().ok()).collect();
    let slowest = times.iter().copied().reduce(f64::max).context("curl printed no time")?;
    let rate = 20.0 / slowest;
    report.check(
        &format!("{path} path, upload of 4 connections together"),
        "4 MiB/s ± 10 %",
        &format!("{rate:.2} MiB/s"),
        times.len() == 4 && (rate - 4.0).abs() < 0.4,
    );
    Ok(())
}

fn adaptive(play: &Play, report: &mut Report) -> Result<()> {
    heading("A server with 4 workers of 10 ms each, asked for ten times what it can do");
    let pod = &play.server("shop-1")?.pod;
    let _server = Overload::server(pod, BUSY_PORT, WORKERS, WORK.as_millis() as u32)?;
    for (service, path, connections) in
        [("adaptive", "proxy", Some(100)), ("adaptive-tcp", "kernel", None)]
    {
        let address = play.address_of(service)?;
        let run = |address: &str, rate, connections: Option<u32>, seconds| {
            let each = if connections.is_some() { "kept connections" } else { "one for each" };
            let line = format!("{rate} requests per second for {seconds} s, {each}: {address}");
            report::command(&play.client.name, &line);
            Overload::run(&play.client, address, rate, connections, seconds)
        };
        let straight = format!("{}:{BUSY_PORT}", pod.ip4);
        let most = run(&straight, ASKED, Some(WORKERS), 2)?.goodput();
        let unloaded = run(&address, 20, connections.map(|_| 1), 3)?;
        let seen = run(&address, ASKED, connections, 6)?;
        println!("  unloaded: 99 % within {:.1} ms; capacity: {most:.0}/s", unloaded.p99);
        println!("  {:.0} refused per second", seen.refused / seen.seconds);
        report.check(
            &format!("{path} path, p99 of what is served"),
            &format!("under 5 × {:.1} ms", unloaded.p99),
            &format!("{:.1} ms", seen.p99),
            seen.p99 < 5.0 * unloaded.p99,
        );
        report.check(
            &format!("{path} path, goodput"),
            &format!("over 90 % of {most:.0}/s"),
            &format!("{:.0}/s, {:.0} failed", seen.goodput(), seen.failed),
            seen.goodput() > 0.9 * most && seen.failed == 0.0,
        );
    }
    play.ask("endpoints adaptive")?;
    play.ask("services")
}

/// The same overload without and with adaptive concurrency.
pub fn overload(play: &Play) -> Result<(Samples, Samples)> {
    let busy = Mood { delay: WORK, workers: WORKERS, ..Mood::default() };
    play.tell("shop-1", "has 4 workers, each request takes 10 ms", busy)?;
    let pace = Pace { rate: 1200, threads: 96, seconds: 6, keep: true };
    let plain = Traffic::start(&play.client, "http://plain/", pace)?.finish()?;
    let adaptive = Traffic::start(&play.client, "http://limited/", pace)?.finish()?;
    Ok((plain, adaptive))
}
