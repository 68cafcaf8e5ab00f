//! h2load: HTTP/2 with many streams, gRPC, and HTTP/1.1 at a given pace.

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::{super::machine::Cores, Latency, Outcome, Target};

#[derive(Clone, Copy, Debug)]
pub struct H2load {
    pub clients: u32,
    /// Requests at a time on each connection.
    pub streams: u32,
    pub kind: Kind,
    /// Requests per second of all clients together; as many as possible if `None`.
    pub pace: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http2,
    /// A unary call: a small message up, a small message and trailers down.
    Grpc,
}

impl H2load {
    pub fn run(&self, target: &Target, cores: &Cores, seconds: u32) -> Result<Outcome> {
        // With a duration h2load counts no percentiles itself; it logs every
        // request, in a buffer that it writes out at the end.
        let log = target.client.folder.join("h2load.log");
        // It appends, and says nothing where it can't.
        if log.exists() {
            fs::remove_file(&log)?;
        }
        let mut line = format!(
            "h2load -t {} -c {} -m {} -D {seconds} --log-file={} ",
            cores.client_threads.min(self.clients),
            self.clients,
            self.streams,
            log.display()
        );
        if let Some(pace) = self.pace {
            line.push_str(&format!("--rps={} ", (pace / self.clients).max(1)));
        }
        let path = match self.kind {
            Kind::Http1 => {
                line.push_str("--h1 ");
                "/"
            }
            Kind::Http2 => "/",
            Kind::Grpc => {
                // One message of 64 bytes with gRPC's five in front.
                let mut message = vec![0, 0, 0, 0, 64];
                message.resize(69, b'x');
                let body = target.client.file("message", message)?;
                line.push_str(&format!("-d {} ", body.display()));
                line.push_str("-H content-type:application/grpc -H te:trailers ");
                "/grpc"
            }
        };
        line.push_str(&target.url(path));
        let printed = target.run(cores, &line)?;
        let logged = fs::read_to_string(&log).unwrap_or_default();
        parse(&printed, &logged)
    }
}

/// The report, and the log of all requests.
fn parse(report: &str, log: &str) -> Result<Outcome> {
    let finished = report
        .lines()
        .find_map(|line| line.strip_prefix("finished in "))
        .with_context(|| format!("h2load printed no result: {report}"))?;
    let seconds = duration(finished.split(',').next().unwrap_or_default())?;
    let counts = report
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))
        .with_context(|| format!("h2load counted no requests: {report}"))?;
    let count = |name: &str| {
        counts
            .split(", ")
            .find_map(|part| part.strip_suffix(name)?.trim().parse::<u64>().ok())
            .with_context(|| format!("no number of {name} requests in {counts:?}"))
    };
    Ok(Outcome {
        done: count("succeeded")?,
        failed: count("failed")? + count("errored")? + count("timeout")?,
        seconds,
        latency: Latency::of(log.lines().filter_map(microseconds).collect()),
    })
}

/// A line is the time of the start, the status, and the duration in µs.
fn microseconds(line: &str) -> Option<u32> {
    line.rsplit('\t').next()?.trim().parse().ok()
}

/// As h2load prints them: `2.00s`, `998.12ms`, `754us`.
fn duration(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            let number: f64 = number.parse().with_context(|| format!("not a duration: {text}"))?;
            return Ok(number * factor);
        }
    }
    bail!("a duration without a unit that is known: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As h2load of nghttp2 1.52.0 prints it.
    const REPORT: &str = "\
starting benchmark...
spawning thread #0: 4 total client(s). Timing-based test with 0s of warm-up time and 1s of main duration for measurements.
Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 1.01s, 3972.00 req/s, 589.59KB/s
requests: 3972 total, 3976 started, 3972 done, 3970 succeeded, 1 failed, 1 errored, 0 timeout
status codes: 3970 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 589.59KB (603744) total, 418.92KB (428976) headers (space savings 0.00%), 19.39KB (19860) data
                     min         max         mean         sd        +/- sd
time for request:       18us     10.75ms       121us       495us    99.17%
";
    const LOG: &str = "1795370827625969\t200\t3953\n1795370827625953\t200\t4088\n\
                       1795370827625959\t200\t4084\n";

    #[test]
    fn a_report_is_read() {
        let outcome = parse(REPORT, LOG).unwrap();
        assert_eq!((outcome.done, outcome.failed), (3970, 2));
        assert!((outcome.seconds - 1.01).abs() < 1e-9);
        let latency = outcome.latency.unwrap();
        assert_eq!((latency.p50, latency.p999), (4084.0, 4088.0));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("2.00s").unwrap(), 2.0);
        assert_eq!(duration("998.50ms").unwrap(), 0.9985);
        assert!((duration("754us").unwrap() - 0.000_754).abs() < 1e-12);
        assert!(duration("3 parsecs").is_err());
    }

    #[test]
    fn no_result_is_an_error() {
        assert!(parse("could not connect", "").is_err());
    }
}
