//! wrk: HTTP/1.1 over connections that are kept, or a new one for each request.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{super::machine::Cores, Latency, Outcome, Target};

/// Only at the end: nothing of it runs per request.
const SUMMARY: &str = r#"
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('{"requests":%d,"us":%d,"failed":%d,"p":[%d,%d,%d,%d]}\n',
        summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99),
        latency:percentile(99.9)))
end
"#;

#[derive(Clone, Copy, Debug)]
pub struct Wrk {
    pub connections: u32,
    /// Every request says `Connection: close`.
    pub close: bool,
    pub path: &'static str,
}

impl Wrk {
    pub fn run(&self, target: &Target, cores: &Cores, seconds: u32) -> Result<Outcome> {
        let script = target.client.file("summary.lua", SUMMARY)?;
        let threads = cores.client_threads.min(self.connections);
        let line = format!(
            "wrk -t{threads} -c{} -d{seconds}s --timeout 10s -s {} {}",
            self.connections,
            script.display(),
            target.url(self.path)
        );
        let mut words: Vec<&str> = line.split(' ').collect();
        if self.close {
            // Without the space wrk leaves it out, and says nothing.
            words.extend(["-H", "Connection: close"]);
        }
        parse(&target.run_words(cores, &words)?)
    }
}

/// What the script printed, below wrk's own report.
fn parse(text: &str) -> Result<Outcome> {
    let line = text
        .lines()
        .find(|line| line.starts_with('{'))
        .with_context(|| format!("wrk printed no summary: {text}"))?;
    let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    let number = |value: &Value| value.as_u64().with_context(|| format!("a gap in {line}"));
    let percentile = |index: usize| number(&value["p"][index]).map(|us| us as f64);
    Ok(Outcome {
        done: number(&value["requests"])?,
        failed: number(&value["failed"])?,
        seconds: number(&value["us"])? as f64 / 1e6,
        latency: Some(Latency {
            p50: percentile(0)?,
            p90: percentile(1)?,
            p99: percentile(2)?,
            p999: percentile(3)?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wrk 4.1.0 prints it.
    const REPORT: &str = r#"Running 1s test @ http://127.0.0.1:22180/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.29ms    2.16ms  12.94ms   85.21%
    Req/Sec    13.21k   841.76    14.68k    80.00%
  13240 requests in 1.01s, 1.92MB read
Requests/sec:  13116.61
Transfer/sec:      1.90MB
{"requests":13240,"us":1009406,"failed":3,"p":[251,4521,9240,12001]}
"#;

    #[test]
    fn a_report_is_read() {
        let outcome = parse(REPORT).unwrap();
        assert_eq!((outcome.done, outcome.failed), (13_240, 3));
        assert!((outcome.seconds - 1.009_406).abs() < 1e-9);
        let latency = Latency { p50: 251.0, p90: 4521.0, p99: 9240.0, p999: 12001.0 };
        assert_eq!(outcome.latency, Some(latency));
    }

    #[test]
    fn a_report_without_a_summary_is_an_error() {
        let error = parse("unable to connect to 127.0.0.1:1 Connection refused").unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }
}
