//! One of three instances becomes slow.

use std::{thread, time::Duration};

use anyhow::Result;
use mesh_tests::server::Mood;

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{Report, heading},
    traffic::{Pace, Samples, Traffic},
};

pub const NAMES: [&str; 3] = ["shop-1", "shop-2", "shop-3"];

/// When the slow one becomes slow, and when it recovers, in seconds.
pub const SLOW: (f64, f64) = (3.0, 8.0);

/// How long the traffic goes on.
const SECONDS: u32 = 30;

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let play = set_up(binaries)?;
    for (service, path) in PATHS {
        heading(&format!("Least response time, {path} path: shop-2 takes 20 ms longer for 5 s"));
        let samples = slow_for_a_while(&play, service)?;
        samples.print_timeline(&NAMES, 1.0);
        let before = samples.between(1.0, SLOW.0).share("shop-2");
        let during = samples.between(SLOW.0 + 2.0, SLOW.1).share("shop-2");
        let after = samples.between(f64::from(SECONDS) - 5.0, f64::from(SECONDS)).share("shop-2");
        let share = |share: f64| format!("{share:.0} %");
        let what = |when: &str| format!("{path} path, share of shop-2 {when}");
        report.check(&what("before"), "20 to 50 %", &share(before), (20.0..50.0).contains(&before));
        report.check(&what("2 s after it slowed"), "under 10 %", &share(during), during < 10.0);
        report.check(&what("after it recovered"), "over 15 %", &share(after), after > 15.0);
        play.ask(&format!("endpoints {service}"))?;
    }
    Ok(play)
}

/// Service and path.
pub const PATHS: [(&str, &str); 2] = [("shop", "proxy"), ("shop-tcp", "kernel")];

pub fn set_up(binaries: &Binaries) -> Result<Play> {
    let policy = "{loadBalancer: {algorithm: leastResponseTime}}";
    Play::set_up(binaries, &NAMES, "", |_, servers| {
        let endpoints = play::fixed(servers);
        Ok(play::service("shop", 10, ("http", "proxy"), &endpoints, policy)
            + &play::service("shop-tcp", 11, ("tcp", "kernel"), &endpoints, policy))
    })
}

/// Traffic during which one instance is slow for a while.
pub fn slow_for_a_while(play: &Play, service: &str) -> Result<Samples> {
    let pace = Pace { rate: 200, threads: 8, seconds: SECONDS, keep: false };
    let traffic = Traffic::start(&play.client, &format!("http://{service}/"), pace)?;
    thread::sleep(Duration::from_secs_f64(SLOW.0));
    let delay = Duration::from_millis(20);
    play.tell("shop-2", "becomes slow", Mood { delay, ..Mood::default() })?;
    thread::sleep(Duration::from_secs_f64(SLOW.1 - SLOW.0));
    play.tell("shop-2", "is fast again", Mood::default())?;
    traffic.finish()
}
