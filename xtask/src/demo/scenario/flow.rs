//! Limits: how many requests, how many bytes, how much at a time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Overload, Pod, eventually,
    server::{Mood, wait_for_port},
};
use serde_json::Value;

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
    let (play, bulk) = stage(binaries)?;
    for (service, path) in [("rate", "proxy"), ("rate-tcp", "kernel")] {
        rate(&play, report, service, path)?;
    }
    let _server = bulk.spawn("iperf3", ["-s"])?;
    wait_for_port(&bulk, 5201)?;
    for (service, path) in [("bandwidth", "proxy"), ("bandwidth-kernel", "kernel")] {
        for way in ["upload", "download"] {
            bandwidth(&play, report, service, path, way)?;
        }
    }
    play.ask(&format!("explain {}", play.address_of("bandwidth-auto")?))?;
    adaptive(&play, report)?;
    Ok(play)
}

pub fn set_up(binaries: &Binaries) -> Result<Play> {
    stage(binaries).map(|(play, _)| play)
}

/// With a pod of its own for bulk data. It is captured: its sockets are paced.
fn stage(binaries: &Binaries) -> Result<(Play, Pod)> {
    let mut bulk = None;
    let play = Play::set_up(binaries, &["shop-1"], "", |world, servers| {
        let pod = bulk.insert(world.client("bulk")?);
        let bulk = format!("{{static: [{{address: {}, port: 5201}}]}}", pod.ip4);
        let both = "{bandwidth: {upload: 4MiB, download: 4MiB}}";
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
            + &play::service("bandwidth", 14, ("tcp", "proxy"), &bulk, both)
            + &play::service("bandwidth-kernel", 15, ("tcp", "kernel"), &bulk, both)
            + &play::service("bandwidth-auto", 18, ("tcp", "auto"), &bulk, both))
    })?;
    Ok((play, bulk.context("the pod was made with the services")?))
}

fn rate(play: &Play, report: &mut Report, service: &str, path: &str) -> Result<()> {
    heading(&format!("100 requests per second and a burst of 20, {path} path, asked for 400/s"));
    let pace = Pace { rate: 400, threads: 8, seconds: 10, keep: false };
    let samples = Traffic::start(&play.client, &format!("http://{service}/"), pace)?.finish()?;
    for (what, count) in samples.counts() {
        println!("  {count:5} {what}");
    }
    let passed = samples.answered();
    report.check(
        &format!("{path} path, requests let through in 10 s"),
        "1,020 ± 1 %",
        &passed.to_string(),
        (1010..=1030).contains(&passed),
    );
    Ok(())
}

/// 1, 4 and 32 connections, over 5 s after the first.
fn bandwidth(play: &Play, report: &mut Report, service: &str, path: &str, way: &str) -> Result<()> {
    heading(&format!("4 MiB/s each way, {path} path: {way}"));
    let address = play.address_of(service)?;
    let address = address.trim_end_matches(":80");
    for connections in ["1", "4", "32"] {
        let reverse = if way == "download" { " -R" } else { "" };
        let line =
            format!("iperf3 -J -c {address} -p 80 -O 1 -t 5 -l 16K -P {connections}{reverse}");
        report::command(&play.client.name, &line);
        // The server takes a moment to be done with the last run.
        let value = eventually("iperf3's server to be free", || {
            let printed = play.client.shell(&line)?;
            let value: Value = serde_json::from_str(&printed).context("iperf3 printed no JSON")?;
            // It may say so and succeed.
            ensure!(value["error"].is_null(), "{value}");
            Ok(value)
        })?;
        let rate = |one: &Value| Some(one["bits_per_second"].as_f64()? / 8.0 / f64::from(1 << 20));
        let end = &value["end"];
        let total = rate(&end["sum_received"]).with_context(|| value.to_string())?;
        let each = end["streams"].as_array().into_iter().flatten();
        let each: Vec<f64> = each.filter_map(|stream| rate(&stream["receiver"])).collect();
        let least = each.iter().copied().fold(f64::INFINITY, f64::min) * each.len() as f64;
        report.check(
            &format!("{path} path, {way} over {connections}"),
            "4 MiB/s ± 5 %, none under half its share",
            &format!("{total:.3} MiB/s, least {:.0} % of its share", 100.0 * least / total),
            (total - 4.0).abs() < 0.2 && least > total / 2.0,
        );
    }
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
