//! `cargo xtask demo --scenario NAME`: one family of features, live.

pub mod balance;
mod discovery;
mod failover;
pub mod flow;
mod multicloud;

use anyhow::Result;
use clap::ValueEnum;

use super::{Binaries, play::Play, report::Report};

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// An application of four services: both paths, a crash, the agent's death
    #[default]
    Bookinfo,
    /// Instances found by DNS and HTTP, followed as they come and go
    Discovery,
    /// An instance becomes slow, and gets less, on both paths
    Balance,
    /// Instances crash, freeze and fail; traffic goes on
    Failover,
    /// Limits of rate, bandwidth and concurrency
    Flow,
    /// Two clouds behind one name: the near one first, the far one when it has to
    Multicloud,
}

/// Shows one of the small ones; gives back its stage.
pub fn run(scenario: Scenario, binaries: &Binaries, report: &mut Report) -> Result<Play> {
    match scenario {
        Scenario::Bookinfo => unreachable!("it has a larger stage: see `steps`"),
        Scenario::Discovery => discovery::show(binaries, report),
        Scenario::Balance => balance::show(binaries, report),
        Scenario::Failover => failover::show(binaries, report),
        Scenario::Flow => flow::show(binaries, report),
        Scenario::Multicloud => multicloud::show(binaries, report),
    }
}
