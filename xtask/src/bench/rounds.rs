//! Interleaved rounds: every contender once, then every contender again, so
//! that a machine that gets slower or faster does so for all of them.

use std::time::Instant;

use anyhow::Result;

use super::{
    contender::Contender,
    cost,
    load::Outcome,
    machine::Cores,
    result::{Comparison, Row, Sample},
    scenario::{self, Load, Scenario},
    stage::Stage,
};

/// Of each run before the first round, in seconds: fills pools and caches.
const WARM_UP: u32 = 1;

#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: u32,
    pub seconds: u32,
}

pub fn run(
    stage: &Stage,
    contenders: &[Contender],
    scenario: &Scenario,
    effort: Effort,
    cores: &Cores,
) -> Result<Comparison> {
    let takes_part = contenders.iter().copied().filter(|one| one.carries(scenario.kind));
    let takes_part: Vec<Contender> = takes_part.collect();
    let pace = match scenario.load {
        Load::Paced => pace(stage, &takes_part, cores)?,
        _ => 0,
    };
    let mut rows: Vec<Row> = takes_part
        .iter()
        .map(|one| Row { contender: one.name().to_owned(), rounds: Vec::new(), problem: None })
        .collect();
    let start = Instant::now();
    for round in 0..effort.rounds {
        for (contender, row) in takes_part.iter().zip(&mut rows) {
            if row.problem.is_some() {
                continue;
            }
            let seconds = (round == 0).then_some(WARM_UP);
            let all = seconds.into_iter().chain([effort.seconds]);
            let sample = all
                .map(|seconds| once(stage, *contender, scenario, seconds, cores, pace))
                .last()
                .unwrap_or_else(|| Ok(Sample::default()));
            match sample {
                Ok(sample) => row.rounds.push(sample),
                // One that can't do it must not spoil what the others did.
                Err(error) => {
                    eprintln!("{}: {}: {error:#}", scenario.name, contender.name());
                    row.problem = Some(format!("{error:#}"));
                }
            }
        }
        let passed = start.elapsed().as_secs();
        eprintln!("{}: round {} of {}, {passed} s", scenario.name, round + 1, effort.rounds);
    }
    Ok(Comparison { scenario: scenario.name.to_owned(), pace: (pace > 0).then_some(pace), rows })
}

fn once(
    stage: &Stage,
    contender: Contender,
    scenario: &Scenario,
    seconds: u32,
    cores: &Cores,
    pace: u32,
) -> Result<Sample> {
    let target = stage.target(contender, scenario.kind)?;
    let (proxies, path) = (stage.proxies(contender)?, stage.whole_path(contender)?);
    cost::forget_peaks(&proxies)?;
    let before = (cost::seconds(&proxies)?, cost::seconds(&path)?);
    let outcome = scenario.run(&target, cores, seconds, pace)?;
    let after = (cost::seconds(&proxies)?, cost::seconds(&path)?);
    let peak = cost::peak(&proxies)?;
    let portion = scenario.portion().0;
    Ok(Sample::of(&outcome, after.0 - before.0, after.1 - before.1, peak, portion))
}

/// Half of what the slowest proxy can do, in requests per second; pairs of
/// sidecars are another league.
fn pace(stage: &Stage, contenders: &[Contender], cores: &Cores) -> Result<u32> {
    let full = scenario::named("http-32").expect("the table has http-32");
    let mut slowest = f64::INFINITY;
    for contender in contenders {
        let is_proxy = contender.peer().is_some() || *contender == Contender::Proxy;
        if !is_proxy || *contender == Contender::Pair {
            continue;
        }
        let target = stage.target(*contender, full.kind)?;
        let Outcome { done, seconds, .. } = full.run(&target, cores, 2, 0)?;
        slowest = slowest.min(done as f64 / seconds);
    }
    if slowest.is_infinite() { Ok(1000) } else { Ok((slowest / 2.0).max(100.0) as u32) }
}
