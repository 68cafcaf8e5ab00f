//! Instances crash, freeze and answer with errors, under constant traffic.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use mesh_tests::server::{Fickle, Mood};

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{self, Report, heading},
    traffic::{Pace, Traffic},
};

const NAMES: [&str; 3] = ["shop-1", "shop-2", "shop-3"];

const PACE: Pace = Pace { rate: 200, threads: 8, seconds: 6, keep: false };

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let failover = "failover: {base: 1s, max: 10s}, timeout: {connect: 300ms}";
    let retry = "retry: {on: [gateway-error, reset, connect-failure], perTryTimeout: 500ms}";
    let mut play = Play::set_up(binaries, &NAMES, "", |_, servers| {
        let endpoints = play::fixed(servers);
        let proxy = format!("{{{failover}, {retry}}}");
        Ok(play::service("shop", 10, ("http", "proxy"), &endpoints, &proxy)
            + &play::service(
                "shop-tcp",
                11,
                ("tcp", "kernel"),
                &endpoints,
                &format!("{{{failover}}}"),
            ))
    })?;
    crash(&mut play, report)?;
    errors(&play, report)?;
    freeze(&play, report)?;
    Ok(play)
}

fn crash(play: &mut Play, report: &mut Report) -> Result<()> {
    heading("shop-2 crashes after 2 s and comes back after 4 s: both paths at once");
    let proxied = Traffic::start(&play.client, "http://shop/", PACE)?;
    let kernel = Traffic::start(&play.client, "http://shop-tcp/", PACE)?;
    thread::sleep(Duration::from_secs(2));
    let server = find(play, "shop-2")?;
    report::command("host", &format!("kill -9 {}   # shop-2", server.process.pid()));
    server.process.kill9()?;
    thread::sleep(Duration::from_secs(1));
    play.ask("endpoints")?;
    thread::sleep(Duration::from_secs(1));
    println!("  … shop-2 starts again");
    find(play, "shop-2")?.restart()?;
    let (proxied, kernel) = (proxied.finish()?, kernel.finish()?);
    println!("  proxy path:");
    proxied.print_timeline(&NAMES, 1.0);
    println!("  kernel path:");
    kernel.print_timeline(&NAMES, 1.0);
    let failed = proxied.failed();
    let seen = format!("{failed} failed of {}", proxied.0.len());
    report.check("proxy path, an instance crashes", "0 failed", &seen, failed == 0);
    let failed = kernel.failed();
    let seen = format!("{failed} failed of {}", kernel.0.len());
    // Three in a row eject it; each exile ends with one probe.
    report.check("kernel path, an instance crashes", "at most 8 failed", &seen, failed <= 8);
    let back = proxied.between(5.0, 6.0).share("shop-2") + kernel.between(5.0, 6.0).share("shop-2");
    report.check("both paths, it is back", "over 0 %", &format!("{back:.0} %"), back > 0.0);
    Ok(())
}

fn errors(play: &Play, report: &mut Report) -> Result<()> {
    heading("shop-3 answers 503 for 2 s: GETs go to another instance, and it is left out");
    let traffic = Traffic::start(&play.client, "http://shop/", PACE)?;
    thread::sleep(Duration::from_secs(1));
    play.tell("shop-3", "answers 503", Mood { status: 503, ..Mood::default() })?;
    thread::sleep(Duration::from_secs(2));
    play.ask("endpoints shop")?;
    play.tell("shop-3", "answers 200 again", Mood::default())?;
    let samples = traffic.finish()?;
    samples.print_timeline(&NAMES, 1.0);
    let seen = format!("{} failed of {}", samples.failed(), samples.0.len());
    report.check("proxy path, an instance answers 503", "0 failed", &seen, samples.failed() == 0);
    Ok(())
}

fn freeze(play: &Play, report: &mut Report) -> Result<()> {
    heading("shop-1 freezes for 2 s: it accepts connections, and says nothing");
    let traffic = Traffic::start(&play.client, "http://shop/", PACE)?;
    thread::sleep(Duration::from_secs(1));
    let pid = play.server("shop-1")?.process.pid();
    play::signal("STOP", pid)?;
    thread::sleep(Duration::from_secs(2));
    play::signal("CONT", pid)?;
    let samples = traffic.finish()?;
    samples.print_timeline(&NAMES, 1.0);
    let seen = format!("{} failed of {}", samples.failed(), samples.0.len());
    report.check("proxy path, an instance freezes", "0 failed", &seen, samples.failed() == 0);
    Ok(())
}

fn find<'a>(play: &'a mut Play, name: &str) -> Result<&'a mut Fickle> {
    let found = play.servers.iter_mut().find(|server| server.pod.name == name);
    found.with_context(|| format!("no server is called {name}"))
}
