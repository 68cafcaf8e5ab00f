//! What was measured, as it stands in the JSON file.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    load::{Latency, Outcome},
    machine::Machine,
};

/// One run of one scenario through one contender.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Units of work per second: requests, or bytes of a stream.
    pub rate: f64,
    pub failed: u64,
    pub latency: Option<Latency>,
    /// Processor seconds per portion of work; of proxies alone.
    pub proxy_cpu: f64,
    /// The same, of proxies, client and servers.
    pub path_cpu: f64,
    /// Of the proxies, in bytes.
    pub peak_memory: u64,
}

impl Sample {
    /// `portion`: so much work is what processor time is given for.
    pub fn of(outcome: &Outcome, proxy: f64, path: f64, peak: u64, portion: f64) -> Self {
        let done = outcome.done.max(1) as f64;
        Self {
            rate: outcome.done as f64 / outcome.seconds.max(f64::EPSILON),
            failed: outcome.failed,
            latency: outcome.latency,
            proxy_cpu: proxy / done * portion,
            path_cpu: path / done * portion,
            peak_memory: peak,
        }
    }
}

/// A value over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, lowest, highest })
    }

    /// Half the distance between the extremes, relative to the median.
    pub fn relative(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.highest - self.lowest) / 2.0 / self.median }
    }
}

/// All rounds of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub contender: String,
    pub rounds: Vec<Sample>,
    /// Why there is nothing, where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Row {
    pub fn spread(&self, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(value))
    }

    pub fn median(&self, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.spread(value).map(|spread| spread.median)
    }

    pub fn latency(&self, value: impl Fn(&Latency) -> f64) -> Option<f64> {
        Spread::of(self.rounds.iter().filter_map(|sample| sample.latency.as_ref().map(&value)))
            .map(|spread| spread.median)
    }

    pub fn failed(&self) -> u64 {
        self.rounds.iter().map(|sample| sample.failed).sum()
    }
}

/// A scenario that compares.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub scenario: String,
    /// Requests per second that were asked for, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<u32>,
    pub rows: Vec<Row>,
}

/// A number about the agent alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fact {
    pub scenario: String,
    /// Short and fixed: goals look for it.
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub rounds: u32,
    pub seconds: u32,
    pub comparisons: Vec<Comparison>,
    pub facts: Vec<Fact>,
}

impl Results {
    pub fn row(&self, scenario: &str, contender: &str) -> Option<&Row> {
        let comparison = self.comparisons.iter().find(|found| found.scenario == scenario)?;
        comparison.rows.iter().find(|row| row.contender == contender && !row.rounds.is_empty())
    }

    pub fn fact(&self, scenario: &str, name: &str) -> Option<f64> {
        let same = |fact: &&Fact| fact.scenario == scenario && fact.name == name;
        self.facts.iter().find(same).map(|fact| fact.value)
    }

    pub fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("not results of `cargo xtask bench --json`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        assert_eq!(Spread::of([]), None);
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.lowest, spread.highest), (2.0, 1.0, 3.0));
        assert_eq!(spread.relative(), 0.5);
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
    }

    #[test]
    fn processor_time_is_per_portion() {
        let outcome = Outcome { done: 50_000, failed: 1, seconds: 2.0, latency: None };
        let sample = Sample::of(&outcome, 1.0, 3.0, 7, 1e5);
        assert_eq!((sample.rate, sample.failed, sample.peak_memory), (25_000.0, 1, 7));
        assert_eq!((sample.proxy_cpu, sample.path_cpu), (2.0, 6.0));
    }
}
