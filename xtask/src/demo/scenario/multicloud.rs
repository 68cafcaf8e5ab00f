//! Two clouds behind one name: the near one fails bit by bit, and returns.

use anyhow::Result;

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{Report, heading},
    traffic::{Pace, Traffic},
};

const NAMES: [&str; 6] = ["aws-1", "aws-2", "aws-3", "gcp-1", "gcp-2", "gcp-3"];

/// With n of 3 near instances left: what stays near, in percent:
/// min(100, 140 · n / 3), as long as the far ones can carry the rest.
const NEAR: [(usize, f64); 4] = [(3, 100.0), (2, 93.0), (1, 47.0), (0, 0.0)];

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let top = "locality: {cloud: aws, region: eu-west-1, zone: a}\n";
    let play = Play::set_up(binaries, &NAMES, top, |_, servers| {
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
        let policy = "{locality: {mode: failover, overprovisioning: 1.4}}";
        Ok(play::service("shop", 10, ("http", "proxy"), &endpoints, policy)
            + &play::service("shop-tcp", 11, ("tcp", "kernel"), &endpoints, policy))
    })?;
    for (left, expected) in NEAR {
        if let Some(lost) = (left < 3).then(|| 3 - left) {
            let near = format!("{}:80", play.server(&format!("aws-{lost}"))?.pod.ip4);
            for service in ["shop", "shop-tcp"] {
                play.ask(&format!("drain {service} {near}"))?;
            }
        }
        check(&play, report, left, expected)?;
    }
    play.ask("explain 10.96.0.10:80")?;
    heading("All return");
    for number in 1..=3 {
        let near = format!("{}:80", play.server(&format!("aws-{number}"))?.pod.ip4);
        for service in ["shop", "shop-tcp"] {
            play.ask(&format!("undrain {service} {near}"))?;
        }
    }
    check(&play, report, 3, 100.0)?;
    Ok(play)
}

fn check(play: &Play, report: &mut Report, left: usize, expected: f64) -> Result<()> {
    heading(&format!("{left} of 3 near instances are there"));
    let pace = Pace { rate: 300, threads: 4, seconds: 2, keep: false };
    for (service, path) in [("shop", "proxy"), ("shop-tcp", "kernel")] {
        let samples =
            Traffic::start(&play.client, &format!("http://{service}/"), pace)?.finish()?;
        samples.print_timeline(&NAMES, 2.0);
        let near: f64 = NAMES[..3].iter().map(|name| samples.share(name)).sum();
        report.check(
            &format!("{path} path, {left} of 3 near ones"),
            &format!("{expected:.0} % stay near, 0 failed"),
            &format!("{near:.0} % stay near, {} failed", samples.failed()),
            (near - expected).abs() < 7.0 && samples.failed() == 0,
        );
    }
    Ok(())
}
