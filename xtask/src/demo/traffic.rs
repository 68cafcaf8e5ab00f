//! Steady traffic from a pod, every answer noted: when, how fast, from whom.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Attempt, Pod};

use super::report;

/// Requests at fixed times, whether or not the ones before were answered in
/// time; each thread has one at a time.
const PROGRAM: &str = r#"
import http.client, sys, threading, time, urllib.parse

url, rate, threads, seconds, keep = sys.argv[1], *map(float, sys.argv[2:5]), sys.argv[5] == "keep"
url = urllib.parse.urlsplit(url)
start = time.time() + 0.05
lines = []

def run(number):
    connection = None
    step = threads / rate
    due = start + number * step / threads
    while due < start + seconds:
        time.sleep(max(0, due - time.time()))
        begun = time.time()
        due = max(due + step, begun)
        try:
            if connection is None:
                connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=5)
            connection.request("GET", url.path or "/")
            answer = connection.getresponse()
            status, who = answer.status, answer.read().decode().strip() or "-"
            if status != 200:
                who = answer.getheader("x-mesh-error") or "-"
        except Exception as error:
            status, who = 0, type(error).__name__
        if connection and (not keep or not status):
            connection.close()
            connection = None
        lines.append("%.4f %.3f %d %s" % (begun - start, (time.time() - begun) * 1000, status, who.split()[0]))

all = [threading.Thread(target=run, args=(number,)) for number in range(int(threads))]
for one in all: one.start()
for one in all: one.join()
print("\n".join(lines))
"#;

/// What is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests per second, of all threads together.
    pub rate: u32,
    pub threads: u32,
    pub seconds: u32,
    /// Connections are kept; else each request has its own.
    pub keep: bool,
}

/// Under way.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    pub milliseconds: f64,
    /// 0 where there was no answer.
    pub status: u16,
    /// The instance, or the error.
    pub who: String,
}

impl Traffic {
    pub fn start(pod: &Pod, url: &str, pace: Pace) -> Result<Self> {
        let Pace { rate, threads, seconds, keep } = pace;
        let each = if keep { "kept connections" } else { "a connection for each" };
        report::command(&pod.name, &format!("{rate} GET {url} per second for {seconds} s, {each}"));
        let mut command = pod.command("python3")?;
        command.args(["-c", PROGRAM, url]);
        command.args([rate, threads, seconds].map(|number| number.to_string()));
        command.arg(if keep { "keep" } else { "new" });
        let child = command.stdout(Stdio::piped()).spawn().context("start the traffic")?;
        Ok(Self { child })
    }

    /// Waits for its end.
    pub fn finish(self) -> Result<Samples> {
        let output = self.child.wait_with_output()?;
        ensure!(output.status.success(), "the traffic's program failed: see above");
        let text = String::from_utf8(output.stdout)?;
        let mut samples = text.lines().map(sample).collect::<Option<Vec<_>>>();
        let samples = samples.as_mut().context("the traffic's program printed something else")?;
        samples.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(Samples(std::mem::take(samples)))
    }
}

fn sample(line: &str) -> Option<Sample> {
    let mut fields = line.split(' ');
    Some(Sample {
        at: fields.next()?.parse().ok()?,
        milliseconds: fields.next()?.parse().ok()?,
        status: fields.next()?.parse().ok()?,
        who: fields.next()?.to_owned(),
    })
}

/// All requests, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(pub Vec<Sample>);

impl From<&[Attempt]> for Samples {
    fn from(seen: &[Attempt]) -> Self {
        let start = seen.iter().map(|one| one.at).reduce(f64::min).unwrap_or(0.0);
        let sample = |one: &Attempt| Sample {
            at: one.at - start,
            milliseconds: one.took * 1000.0,
            status: if one.failed() { 0 } else { 200 },
            who: one.what.clone(),
        };
        let mut samples: Vec<_> = seen.iter().map(sample).collect();
        samples.sort_by(|a, b| a.at.total_cmp(&b.at));
        Self(samples)
    }
}

impl Samples {
    pub fn between(&self, from: f64, to: f64) -> Self {
        Self(self.0.iter().filter(|s| (from..to).contains(&s.at)).cloned().collect())
    }

    pub fn answered(&self) -> usize {
        self.0.iter().filter(|sample| sample.status == 200).count()
    }

    pub fn failed(&self) -> usize {
        self.0.len() - self.answered()
    }

    /// Of the answers, in percent.
    pub fn share(&self, who: &str) -> f64 {
        let his = self.0.iter().filter(|s| s.status == 200 && s.who == who).count();
        100.0 * his as f64 / self.answered().max(1) as f64
    }

    /// Milliseconds within which this part of the answers came.
    pub fn percentile(&self, part: f64) -> f64 {
        let answered = self.0.iter().filter(|sample| sample.status == 200);
        let mut all: Vec<f64> = answered.map(|sample| sample.milliseconds).collect();
        all.sort_by(f64::total_cmp);
        let index = (part * all.len() as f64) as usize;
        all.get(index.min(all.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// Instances, and errors, by how often they were seen.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for sample in &self.0 {
            let name = match sample.status {
                200 => sample.who.clone(),
                0 => format!("failed: {}", sample.who),
                status => format!("{status} {}", sample.who),
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    /// Prints who answered in each stretch of time, a row for each.
    pub fn print_timeline(&self, names: &[&str], step: f64) {
        let end = self.0.last().map_or(0.0, |sample| sample.at);
        let head: String = names.iter().map(|name| format!("{name:>12}")).collect();
        println!("  {:>8}{head}{:>9}{:>10}", "seconds", "failed", "p99 ms");
        let mut from = 0.0;
        while from < end {
            let part = self.between(from, from + step);
            let shares: String =
                names.iter().map(|name| format!("{:>11.0}%", part.share(name))).collect();
            let (failed, p99) = (part.failed(), part.percentile(0.99));
            println!("  {from:>8.1}{shares}{failed:>9}{p99:>10.1}");
            from += step;
        }
    }
}
