//! Limits: how many requests, how many bytes, how much at a time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mesh_tests::server::Mood;

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{self, Report, heading},
    traffic::{Pace, Samples, Traffic},
};

/// Workers of the server, and what each request takes it.
const WORKERS: u32 = 4;
const WORK: Duration = Duration::from_millis(10);

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
        let http = ("http", "proxy");
        let rate = "{rateLimit: {requests: 100, per: 1s, burst: 20}}";
        Ok(play::service("rate", 10, http, &endpoints, rate)
            + &play::service("rate-tcp", 11, ("tcp", "kernel"), &endpoints, rate)
            + &play::service("plain", 12, http, &endpoints, "{}")
            + &play::service("adaptive", 13, http, &endpoints, "{adaptiveConcurrency: {}}")
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
    heading("A server with 4 workers of 10 ms each, asked for three times what it can do");
    let (plain, adaptive) = overload(play)?;
    let shown = |samples: &Samples| {
        format!("{:.0} ms, {} served", samples.percentile(0.99), samples.answered())
    };
    println!("  without: 99 % within {}", shown(&plain));
    report.check(
        "adaptive concurrency, p99 of what is served",
        "under half of the one without",
        &shown(&adaptive),
        adaptive.percentile(0.99) < plain.percentile(0.99) / 2.0,
    );
    play.ask("endpoints adaptive")?;
    Ok(())
}

/// The same overload without and with adaptive concurrency.
pub fn overload(play: &Play) -> Result<(Samples, Samples)> {
    let busy = Mood { delay: WORK, workers: WORKERS, ..Mood::default() };
    play.tell("shop-1", "has 4 workers, each request takes 10 ms", busy)?;
    let pace = Pace { rate: 1200, threads: 96, seconds: 6, keep: true };
    let plain = Traffic::start(&play.client, "http://plain/", pace)?.finish()?;
    let adaptive = Traffic::start(&play.client, "http://adaptive/", pace)?.finish()?;
    Ok((plain, adaptive))
}
