//! Programs that make load, none of them ours, and what they say about it.

pub mod h2load;
pub mod iperf;
pub mod sockperf;
pub mod wrk;

use anyhow::Result;
use mesh_tests::{Pod, text};
use serde::{Deserialize, Serialize};

use super::machine::Cores;

/// What one run of a load generator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Units of work: requests, or bytes where the load is a stream.
    pub done: u64,
    /// Refused, broken, answered with an error, or never answered.
    pub failed: u64,
    pub seconds: f64,
    pub latency: Option<Latency>,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Latency {
    /// Of all samples, by the nearest rank; `None` where there are none.
    pub fn of(mut samples: Vec<u32>) -> Option<Self> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        let rank = |share: f64| f64::from(samples[(last as f64 * share).round() as usize]);
        Some(Self { p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), p999: rank(0.999) })
    }
}

/// Where a load comes from and goes to.
#[derive(Clone, Debug)]
pub struct Target {
    pub client: Pod,
    pub address: String,
    pub port: u16,
}

impl Target {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.address, self.port)
    }

    /// Runs a load generator in the client's pod, on the clients' cores, and
    /// returns what it printed.
    fn run(&self, cores: &Cores, line: &str) -> Result<String> {
        self.run_words(cores, &line.split(' ').collect::<Vec<_>>())
    }

    fn run_words(&self, cores: &Cores, words: &[&str]) -> Result<String> {
        let mut command = self.client.command("taskset")?;
        command.args(["-c", &cores.clients]).args(words);
        text(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        assert_eq!(Latency::of(Vec::new()), None);
        let one = Latency::of(vec![7]);
        assert_eq!(one, Some(Latency { p50: 7.0, p90: 7.0, p99: 7.0, p999: 7.0 }));
        let many = Latency::of((0..=1000).rev().collect());
        assert_eq!(many, Some(Latency { p50: 500.0, p90: 900.0, p99: 990.0, p999: 999.0 }));
    }
}
