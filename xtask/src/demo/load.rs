//! wrk in a pod, and what failed of its requests.

use std::{
    fmt,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::Pod;
use serde_json::Value;

use super::report;

/// Prints the counts so that a program can read them.
const SUMMARY: &str = r#"
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"us":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p99":%d}\n',
        summary.requests, summary.duration, e.connect, e.read, e.write, e.status, e.timeout,
        latency:percentile(99)))
end
"#;

/// Connections of each load, all kept alive.
pub const CONNECTIONS: u64 = 8;

/// wrk at work.
#[derive(Debug)]
pub struct Load {
    child: Child,
}

/// What became of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub requests: u64,
    pub microseconds: u64,
    /// Failed to connect, broke, were answered with a status of 400 and more,
    /// or had no answer within two seconds.
    pub failed: u64,
    /// The same, by kind.
    pub kinds: String,
    pub p99_us: u64,
}

impl Load {
    pub fn start(pod: &Pod, url: &str, seconds: u32) -> Result<Self> {
        // One for each target: two loads start side by side, and a script must
        // not be written anew while the other's wrk reads it.
        let script =
            pod.file(&format!("{}.lua", url.replace(['/', ':', '[', ']'], "-")), SUMMARY)?;
        let script = script.display();
        let line = format!("wrk -t1 -c{CONNECTIONS} -d{seconds}s --timeout 2s -s {script} {url}");
        report::command(&pod.name, &line);
        let mut words = line.split(' ');
        let mut command = pod.command(words.next().unwrap_or_default())?;
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self { child: command.spawn().context("start wrk")? })
    }

    /// Waits for its end.
    pub fn finish(self) -> Result<Outcome> {
        let output = self.child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "wrk failed: {text}{errors}");
        let line = text
            .lines()
            .find(|line| line.starts_with('{'))
            .with_context(|| format!("wrk printed no summary: {text}{errors}"))?;
        let value: Value = serde_json::from_str(line)?;
        let count = |key: &str| value[key].as_u64().with_context(|| format!("no {key} in {line}"));
        let mut failed = 0;
        let mut kinds = Vec::new();
        for kind in ["connect", "read", "write", "status", "timeout"] {
            let number = count(kind)?;
            failed += number;
            if number > 0 {
                kinds.push(format!("{kind} {number}"));
            }
        }
        Ok(Outcome {
            requests: count("requests")?,
            microseconds: count("us")?,
            failed,
            kinds: kinds.join(", "),
            p99_us: count("p99")?,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed of {}", self.failed, self.requests)?;
        if !self.kinds.is_empty() {
            write!(f, " ({})", self.kinds)?;
        }
        Ok(())
    }
}

impl Outcome {
    /// For people: how fast it was.
    pub fn pace(&self) -> String {
        let rate = self.requests.saturating_mul(1_000_000) / self.microseconds.max(1);
        format!("{rate} requests/s, 99 % within {:.1} ms", self.p99_us as f64 / 1000.0)
    }
}
