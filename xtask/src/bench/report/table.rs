//! Rows and columns, for the terminal and for the page.

use super::{
    super::{
        goal::{Met, Verdict},
        result::{Comparison, Fact, Row},
        scenario::{self, Load},
    },
    short, title,
};

/// A table as text cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// For the terminal.
    pub fn plain(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(&self.head);
        table.add_rows(&self.rows);
        table.to_string()
    }

    /// For the page.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.head);
        text += &format!("|---|{}\n", "--:|".repeat(self.head.len().saturating_sub(1)));
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

fn words(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

pub fn comparison(comparison: &Comparison) -> Table {
    let scenario = scenario::named(&comparison.scenario);
    let bulk = scenario.is_some_and(|scenario| matches!(scenario.load, Load::Iperf));
    let portion = scenario.map_or("", |scenario| scenario.portion().1);
    let rate = if bulk { "Gbit/s" } else { "per s" };
    let mut head = words(&["", rate, "±", "p50 µs", "p90", "p99", "p99.9"]);
    head.push(format!("CPU s per {portion}, proxy"));
    head.extend(words(&["whole path", "peak MiB", "failed"]));
    let factor = if bulk { 8e-9 } else { 1.0 };
    let rows = comparison.rows.iter().map(|row| cells(row, factor)).collect();
    Table { head, rows }
}

fn cells(row: &Row, factor: f64) -> Vec<String> {
    let or_dash = |value: Option<f64>| value.map_or("–".to_owned(), short);
    let Some(rate) = row.spread(|sample| sample.rate * factor) else {
        let mut cells = vec![title(row), "failed".to_owned()];
        cells.resize(11, "–".to_owned());
        return cells;
    };
    vec![
        title(row),
        short(rate.median),
        format!("{:.0} %", rate.relative() * 100.0),
        or_dash(row.latency(|latency| latency.p50)),
        or_dash(row.latency(|latency| latency.p90)),
        or_dash(row.latency(|latency| latency.p99)),
        or_dash(row.latency(|latency| latency.p999)),
        or_dash(row.median(|sample| sample.proxy_cpu)),
        or_dash(row.median(|sample| sample.path_cpu)),
        or_dash(row.median(|sample| sample.peak_memory as f64 / 1_048_576.0)),
        row.failed().to_string(),
    ]
}

pub fn facts<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Table {
    let row = |fact: &Fact| {
        let about = scenario::named(&fact.scenario).map_or("", |scenario| scenario.about);
        vec![about.to_owned(), fact.name.clone(), format!("{} {}", short(fact.value), fact.unit)]
    };
    Table { head: words(&["", "what", "value"]), rows: facts.into_iter().map(row).collect() }
}

pub fn goals(verdicts: &[Verdict]) -> Table {
    let row = |verdict: &Verdict| {
        let number = |value: Option<f64>| value.map_or("–".to_owned(), short);
        let met = match verdict.met {
            Some(Met::Yes) => "met",
            Some(Met::PastTcp) => "met past TCP",
            Some(Met::No) => "missed",
            None => "not measured",
        };
        let (measured, past_tcp) = (number(verdict.measured), number(verdict.past_tcp));
        vec![verdict.what.clone(), verdict.goal.clone(), measured, past_tcp, met.to_owned()]
    };
    let head = words(&["what", "goal", "measured", "past TCP", ""]);
    Table { head, rows: verdicts.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{load::Latency, result::Sample};

    #[test]
    fn a_comparison_has_a_row_for_each_contender() {
        let latency = Latency { p50: 72.0, p90: 90.0, p99: 150.0, p999: 900.0 };
        let sample = Sample {
            rate: 62_800.0,
            failed: 0,
            latency: Some(latency),
            proxy_cpu: 1.3,
            path_cpu: 2.7,
            peak_memory: 11 << 20,
        };
        let rows = vec![
            Row { contender: "haproxy".into(), rounds: vec![sample], problem: None },
            Row { contender: "envoy".into(), rounds: vec![], problem: Some("broken".into()) },
        ];
        let table = comparison(&Comparison { scenario: "http-32".into(), pace: None, rows });
        let text = table.markdown();
        assert!(text.contains("CPU s per 100,000 requests, proxy"), "{text}");
        let row = "| haproxy, explicit | 62.8k | 0 % | 72.0 | 90.0 | 150 | 900 | 1.30 | 2.70 | 11.0 | 0 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| Envoy, explicit | failed | – |"), "{text}");
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
    }
}
