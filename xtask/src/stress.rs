//! `cargo xtask stress`: random bytes through every path, for as long as asked.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use mesh_tests::{World, integrity::Stress};

use crate::{
    build, process,
    setup::{self, Purpose},
};

/// Move random bytes with checks through every path, while the agent restarts (as root).
///
/// Streams of random lengths on the kernel path and through the agent, files by
/// HTTP/1.1 and HTTP/2, slow readers, half-closes. It ends with an error at the
/// first byte that is lost, reordered or invented, and names the seed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How long
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Where random lengths begin; the same seed asks for the same streams
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The agent's binary; else it is built, optimised
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    ensure!(process::is_root()?, "this needs root: it makes network namespaces and cgroups");
    setup::ensure(Purpose::Test)?;
    let agent = match &arguments.agent {
        Some(path) => path.clone(),
        None => build::agent(true)?,
    };
    let mut stress = Stress::with_agent(World::beside_the_tests("stress")?, agent)?;
    for minute in 1..=arguments.minutes {
        // Rounds add to the seed; minutes are far apart.
        let seed = arguments.seed + minute * 1_000;
        let totals = stress.run(Duration::from_secs(60), true, seed)?;
        println!(
            "minute {minute}: {:.1} MB in {} streams and files, {} cut by restarts, none wrong",
            totals.bytes as f64 / 1e6,
            totals.whole,
            totals.cut
        );
    }
    Ok(())
}
