//! What the demo shows, in order.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result};
use mesh_tests::{eventually, server::Role};
use serde_json::Value;

use super::{
    load::{CONNECTIONS, Load},
    report::{Report, heading, printed},
    stage::Stage,
};

/// Requests in each count of who answered.
const REQUESTS: usize = 300;

/// A connection through the agent breaks with it. The one opened next takes the
/// kernel path: listeners are the first to go (see `net::listen_tcp`).
const LOST_WITH_THE_AGENT: u64 = CONNECTIONS;

pub fn all(stage: &mut Stage, report: &mut Report) -> Result<()> {
    page(stage, report)?;
    spread(stage, report)?;
    paths(stage, report)?;
    instance_dies(stage, report)?;
    agent_dies(stage, report)?;
    agent_returns(stage, report)
}

fn page(stage: &Stage, report: &mut Report) -> Result<()> {
    heading("An unmodified application, by hostname and by virtual address");
    let [ip4, ip6] = stage.service("productpage")?.authorities();
    for (what, authority) in
        [("hostname", "productpage:9080".to_owned()), ("IPv4 address", ip4), ("IPv6 address", ip6)]
    {
        let line = format!("curl -sS -m 5 -g http://{authority}/productpage");
        let page = stage.client(&line)?;
        let served: Vec<_> =
            page.lines().filter(|line| line.contains("Reviews served by")).collect();
        printed(&served.join("\n").replace("<p><small>", "").replace("</small></p>", ""), 3);
        let whole = page.contains("PublisherA") && page.contains("extremely entertaining");
        let seen = if whole && !served.is_empty() { "the page" } else { "something else" };
        report.equal(&format!("page by {what}"), "the page", seen);
    }
    Ok(())
}

fn spread(stage: &Stage, report: &mut Report) -> Result<()> {
    heading("Round robin: 300 requests on one connection, balanced one by one by the agent");
    let line = format!("curl -sS -m 20 'http://reviews:9080/reviews/[1-{REQUESTS}]'");
    let counts = count(&stage.client(&line)?)?;
    report.equal(
        "proxied requests per instance",
        "reviews-v1 100, reviews-v2 100, reviews-v3 100",
        &counts,
    );
    heading("Round robin: 300 connections, balanced in the kernel at connect()");
    let line = format!(
        "curl -sS -m 20 -H 'Connection: close' 'http://ratings:9080/ratings/[1-{REQUESTS}]'"
    );
    let counts = count(&stage.client(&line)?)?;
    report.equal("kernel connections per instance", "ratings-1 150, ratings-2 150", &counts);
    Ok(())
}

/// Who answered how often; prints a table.
fn count(answers: &str) -> Result<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for line in answers.lines() {
        let answer: Value =
            serde_json::from_str(line).with_context(|| format!("not an answer: {line}"))?;
        let instance = answer["instance"].as_str().unwrap_or("an error");
        *counts.entry(instance.to_owned()).or_default() += 1;
    }
    for (instance, count) in &counts {
        println!("  {instance:12} {count:4} {}", "▇".repeat(count / 5));
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    Ok(counts.join(", "))
}

fn paths(stage: &Stage, report: &mut Report) -> Result<()> {
    heading("Two paths, side by side");
    stage.ask("status")?;
    stage.ask("services")?;
    stage.ask("endpoints")?;
    for name in ["reviews", "ratings"] {
        stage.ask(&format!("explain {}", stage.service(name)?.authorities()[0]))?;
    }
    let services = stage.agent.json(["services"])?;
    for (name, path) in [("reviews", "proxy"), ("ratings", "kernel")] {
        let seen = path_of(&services, name).unwrap_or("not listed");
        report.equal(&format!("path of {name}"), path, seen);
    }
    Ok(())
}

/// The path of a service's first port, in the answer of `services -o json`.
fn path_of<'a>(services: &'a Value, name: &str) -> Option<&'a str> {
    let list = services.as_array().or_else(|| services["services"].as_array())?;
    let service = list.iter().find(|service| service["name"] == name)?;
    service["ports"][0]["path"].as_str()
}

fn instance_dies(stage: &mut Stage, report: &mut Report) -> Result<()> {
    heading("An instance is killed under load: the agent goes to another one at once");
    let load = Load::start(&stage.client, "http://reviews:9080/reviews/0", 3)?;
    thread::sleep(Duration::from_secs(1));
    stage.crash("reviews-v2")?;
    let outcome = load.finish()?;
    println!("  {}", outcome.pace());
    report.check(
        "proxied, an instance killed",
        "0 failed",
        &outcome.to_string(),
        outcome.failed == 0 && outcome.requests > 100,
    );
    stage.revive("reviews-v2", Role::Reviews(2))
}

fn agent_dies(stage: &mut Stage, report: &mut Report) -> Result<()> {
    heading("The agent is killed under load: the kernel goes on by itself");
    let kernel = Load::start(&stage.client, "http://ratings:9080/ratings/0", 4)?;
    let proxied = Load::start(&stage.client, "http://reviews:9080/reviews/0", 4)?;
    thread::sleep(Duration::from_secs(2));
    println!("host$ kill -9 {}   # mesh-agent", stage.agent.pid());
    stage.agent.kill9()?;
    let (kernel, proxied) = (kernel.finish()?, proxied.finish()?);
    report.check(
        "kernel path, agent killed",
        "0 failed",
        &kernel.to_string(),
        kernel.failed == 0 && kernel.requests > 100,
    );
    report.check(
        "proxy path, agent killed",
        &format!("at most {LOST_WITH_THE_AGENT} failed: 1 for each connection"),
        &proxied.to_string(),
        proxied.failed <= LOST_WITH_THE_AGENT && proxied.requests > 100,
    );
    let [address, _] = stage.service("reviews")?.authorities();
    let line = format!("curl -sS -m 20 -H 'Connection: close' 'http://{address}/reviews/[1-100]'");
    let answered = stage.client(&line)?.lines().count();
    report.equal("new connections without an agent", "100 of 100", &format!("{answered} of 100"));
    println!("host$ mesh-agent status");
    let status = stage.agent.output(["status"])?.status.code();
    report.equal(
        "exit code of `mesh-agent status`",
        "3",
        &status.map_or_else(|| "a signal".to_owned(), |code| code.to_string()),
    );
    Ok(())
}

fn agent_returns(stage: &mut Stage, report: &mut Report) -> Result<()> {
    heading("The agent starts again under load, and takes over");
    // By address: without an agent nobody answers for hostnames.
    let [address, _] = stage.service("ratings")?.authorities();
    let kernel = Load::start(&stage.client, &format!("http://{address}/ratings/0"), 3);
    let [address, _] = stage.service("reviews")?.authorities();
    let proxied = Load::start(&stage.client, &format!("http://{address}/reviews/0"), 3);
    println!("host$ mesh-agent run --config mesh.yaml");
    stage.agent.restart()?;
    for (path, load) in [("kernel", kernel?), ("proxy", proxied?)] {
        let outcome = load.finish()?;
        report.check(
            &format!("{path} path, agent started again"),
            "0 failed",
            &outcome.to_string(),
            outcome.failed == 0 && outcome.requests > 100,
        );
    }
    stage.agent.wait_for(&stage.client)?;
    let counts = eventually("the agent to balance requests again", || {
        let answers = stage.client.curl(["http://reviews:9080/reviews/[1-30]"]);
        let answers = answers.map_err(|error| vec![format!("{error:#}")])?;
        let mut names: Vec<_> = answers
            .lines()
            .filter_map(|line| {
                let answer: Value = serde_json::from_str(line).ok()?;
                Some(answer["instance"].as_str()?.to_owned())
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        // One connection: only the agent can spread its requests.
        if names.len() == 3 { Ok(names.len().to_string()) } else { Err(names) }
    });
    let seen = counts.unwrap_or_else(|error| format!("{error:#}"));
    report.equal("instances on one connection afterwards", "3", &seen);
    stage.ask("status")
}
