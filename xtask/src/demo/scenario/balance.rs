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
pub const SLOW: (f64, f64) = (5.0, 10.0);

/// How long the traffic goes on.
const SECONDS: u32 = 45;

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let play = set_up(binaries)?;
    heading("Least response time on both paths: shop-2 takes 20 ms longer for a while");
    let both = slow_for_a_while(&play)?;
    for ((service, path), samples) in PATHS.into_iter().zip(&both) {
        println!("  {path} path:");
        samples.print_timeline(&NAMES, 1.0);
        let during = samples.between(SLOW.0 + 2.0, SLOW.1).share("shop-2");
        let end = f64::from(SECONDS);
        let after = samples.between(end - 10.0, end).share("shop-2");
        let share = |share: f64| format!("{share:.0} %");
        let what = |when: &str| format!("{path} path, share of shop-2 {when}");
        report.check(&what("2 s after it slowed"), "under 10 %", &share(during), during < 10.0);
        // Good news is believed slowly: see docs/load-balancing.md.
        report.check(&what("half a minute after"), "over 5 %", &share(after), after > 5.0);
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

/// Traffic on both paths, during which one instance is slow for a while.
pub fn slow_for_a_while(play: &Play) -> Result<[Samples; 2]> {
    let pace = Pace { rate: 150, threads: 6, seconds: SECONDS, keep: false };
    let [proxy, kernel] =
        PATHS.map(|(service, _)| Traffic::start(&play.client, &format!("http://{service}/"), pace));
    thread::sleep(Duration::from_secs_f64(SLOW.0));
    let delay = Duration::from_millis(20);
    play.tell("shop-2", "becomes slow", Mood { delay, ..Mood::default() })?;
    thread::sleep(Duration::from_secs_f64(SLOW.1 - SLOW.0));
    play.tell("shop-2", "is fast again", Mood::default())?;
    Ok([proxy?.finish()?, kernel?.finish()?])
}
