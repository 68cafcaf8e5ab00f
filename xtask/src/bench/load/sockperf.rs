//! sockperf: one small message there and back, then the next, on one socket.

use anyhow::{Context as _, Result};

use super::{super::machine::Cores, Latency, Outcome, Target};

/// Of each message.
const BYTES: u32 = 64;

pub fn run(target: &Target, cores: &Cores, seconds: u32, tcp: bool) -> Result<Outcome> {
    let (address, port) = (&target.address, target.port);
    let tcp = if tcp { " --tcp" } else { "" };
    let line = format!(
        "sockperf ping-pong -i {address} -p {port} -t {seconds} -m {BYTES} --full-rtt{tcp}"
    );
    parse(&target.run(cores, &line)?)
}

fn parse(text: &str) -> Result<Outcome> {
    // Of the time without warm-up and cool-down.
    let valid = text
        .lines()
        .find_map(|line| line.split_once("[Valid Duration] ").map(|(_, rest)| rest))
        .with_context(|| format!("sockperf measured nothing: {text}"))?;
    let field = |name: &str| {
        valid
            .split("; ")
            .find_map(|part| part.strip_prefix(name)?.trim_end_matches(" sec").parse::<f64>().ok())
            .with_context(|| format!("no {name} in {valid:?}"))
    };
    let percentile = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.split_once(&format!("percentile {name} ="))?.1.trim().parse().ok()
            })
            .with_context(|| format!("sockperf printed no percentile {name}"))
    };
    let (sent, received) = (field("SentMessages=")?, field("ReceivedMessages=")?);
    Ok(Outcome {
        done: received as u64,
        failed: (sent - received).max(0.0) as u64,
        seconds: field("RunTime=")?,
        latency: Some(Latency {
            p50: percentile("50.000")?,
            p90: percentile("90.000")?,
            p99: percentile("99.000")?,
            p999: percentile("99.900")?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As sockperf 3.7 prints it, its colours included.
    const REPORT: &str = "\
sockperf: \u{1b}[2;35m== version #3.7-no.git == \u{1b}[0m
sockperf[CLIENT] send on:sockperf: using recvfrom() to block on socket(s)

[ 0] IP = 127.0.0.1       PORT = 22111 # UDP
sockperf: Test ended
sockperf: [Total Run] RunTime=2.001 sec; Warm up time=400 msec; SentMessages=33225; ReceivedMessages=33224
sockperf: ========= Printing statistics for Server No: 0
sockperf: [Valid Duration] RunTime=1.545 sec; SentMessages=25579; ReceivedMessages=25578
sockperf: \u{1b}[2;35m====> avg-rtt=60.357 (std-dev=529.951)\u{1b}[0m
sockperf: # dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0
sockperf: Total 25579 observations; each percentile contains 255.79 observations
sockperf: ---> <MAX> observation = 13309.585
sockperf: ---> percentile 99.999 = 13309.585
sockperf: ---> percentile 99.990 = 10713.834
sockperf: ---> percentile 99.900 = 8116.621
sockperf: ---> percentile 99.000 = 1560.861
sockperf: ---> percentile 90.000 =   12.849
sockperf: ---> percentile 75.000 =   12.488
sockperf: ---> percentile 50.000 =   11.967
";

    #[test]
    fn a_report_is_read() {
        let outcome = parse(REPORT).unwrap();
        assert_eq!((outcome.done, outcome.failed, outcome.seconds), (25_578, 1, 1.545));
        let latency = Latency { p50: 11.967, p90: 12.849, p99: 1560.861, p999: 8116.621 };
        assert_eq!(outcome.latency, Some(latency));
    }

    #[test]
    fn too_short_a_run_is_an_error() {
        assert!(parse("sockperf: No valid observations found. Try tune parameters").is_err());
    }
}
