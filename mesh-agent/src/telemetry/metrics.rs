//! The metrics page, built anew at every scrape.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

pub use super::table::*;

/// What a scraper is told of the format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is known of a metric before there is a value.
#[derive(Debug)]
pub struct Descriptor {
    /// As it is scraped; a counter's ends in `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One sentence without its full stop.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric that only goes up, with `N` labels.
#[derive(Debug)]
pub struct Counter<const N: usize>(pub Descriptor);

/// A metric that goes up and down, with `N` labels.
#[derive(Debug)]
pub struct Gauge<const N: usize>(pub Descriptor);

/// How often a value was how large, with `N` labels.
#[derive(Debug)]
pub struct Histogram<const N: usize>(pub Descriptor);

/// Values of a histogram: each bound of the buckets with how many are in it and
/// not below the bound before, and the sum of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
}

/// One scrape in the making. Two values for the same labels add up, so that a
/// caller may go through its maps in any order.
#[derive(Debug, Default)]
pub struct Exposition {
    counters: BTreeMap<&'static str, BTreeMap<Vec<String>, u64>>,
    gauges: BTreeMap<&'static str, BTreeMap<Vec<String>, f64>>,
    histograms: BTreeMap<&'static str, BTreeMap<Vec<String>, Distribution>>,
}

impl Exposition {
    /// Adds a value; the labels' values come in the order of the table.
    pub fn counter<const N: usize>(&mut self, metric: &Counter<N>, labels: [&str; N], value: u64) {
        let series = self.counters.entry(metric.0.name).or_default();
        let total = series.entry(labels.map(str::to_owned).into()).or_default();
        *total = total.saturating_add(value);
    }

    /// As [`Self::counter`].
    pub fn gauge<const N: usize>(&mut self, metric: &Gauge<N>, labels: [&str; N], value: f64) {
        let series = self.gauges.entry(metric.0.name).or_default();
        *series.entry(labels.map(str::to_owned).into()).or_default() += value;
    }

    /// The values of one series; not to be given twice.
    pub fn histogram<const N: usize>(
        &mut self,
        metric: &Histogram<N>,
        labels: [&str; N],
        values: Distribution,
    ) {
        let series = self.histograms.entry(metric.0.name).or_default();
        series.insert(labels.map(str::to_owned).into(), values);
    }

    /// Memory and descriptors of this process. Left out where /proc doesn't
    /// say.
    pub fn process(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        if let Some(kibibytes) = kibibytes {
            let kibibytes: u32 = kibibytes;
            self.gauge(&RESIDENT_MEMORY, [], f64::from(kibibytes) * 1024.0);
        }
        if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
            let open = u32::try_from(descriptors.count()).unwrap_or(u32::MAX);
            self.gauge(&OPEN_DESCRIPTORS, [], f64::from(open));
        }
    }

    /// The page, in the format of [`CONTENT_TYPE`].
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in ALL {
            // The encoder puts `_total` and the full stop there itself.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let counters = self.counters.get(metric.name);
            let gauges = self.gauges.get(metric.name);
            let histograms = self.histograms.get(metric.name);
            if counters.is_none() && gauges.is_none() && histograms.is_none() {
                continue;
            }
            let help = format!("{}.", metric.help.trim());
            let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
            for (values, value) in counters.into_iter().flatten() {
                let labels = label_set(metric, values);
                // A family of no labels would be written as `name{}`.
                if labels.is_empty() {
                    family.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                } else {
                    let mut series = family.encode_family(&labels)?;
                    series.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                }
            }
            for (values, value) in gauges.into_iter().flatten() {
                let labels = label_set(metric, values);
                if labels.is_empty() {
                    family.encode_gauge(value)?;
                } else {
                    family.encode_family(&labels)?.encode_gauge(value)?;
                }
            }
            for (values, of) in histograms.into_iter().flatten() {
                let labels = label_set(metric, values);
                let count = of.buckets.iter().map(|(_, count)| count).sum();
                let mut series = family.encode_family(&labels)?;
                series.encode_histogram::<NoLabelSet>(of.sum, count, &of.buckets, None)?;
            }
        }
        Ok(())
    }
}

fn label_set<'a>(metric: &Descriptor, values: &'a [String]) -> Vec<(&'static str, Cow<'a, str>)> {
    let values = values.iter().map(|value| Cow::Borrowed(value.as_str()));
    metric.labels.iter().copied().zip(values).collect()
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Descriptor {
    /// By Prometheus' rule, the name ends in its unit.
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        match name.rsplit('_').next() {
            Some("seconds") => "seconds",
            Some("bytes") => "bytes",
            _ => "–",
        }
    }
}

/// docs/metrics.md.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         The agent serves these on `admin.http`, by default\n\
         <http://127.0.0.1:15020/metrics>, in the OpenMetrics text format. They are\n\
         collected at each scrape: what is gone from the configuration is gone from the\n\
         page. `port` is the service's port, `instance` an instance's address and port,\n\
         `path` is `kernel` or `proxy`.\n\n\
         This page is generated from the table in `mesh-agent/src/telemetry/table.rs`.\n\n\
         | metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let (name, kind, unit) = (metric.name, metric.kind.name(), metric.unit());
        let help = metric.help.trim();
        writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {help} |")
            .expect("writing to a String cannot fail");
    }
    page
}

#[cfg(test)]
mod tests;
