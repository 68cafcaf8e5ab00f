//! iperf3: one TCP stream, as fast as it goes, from client to server.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{super::machine::Cores, Outcome, Target};

pub fn run(target: &Target, cores: &Cores, seconds: u32) -> Result<Outcome> {
    let (address, port) = (&target.address, target.port);
    let line = format!("iperf3 -J -c {address} -p {port} -t {seconds}");
    parse(&target.run(cores, &line)?)
}

/// What arrived counts, not what was sent.
fn parse(text: &str) -> Result<Outcome> {
    let value: Value = serde_json::from_str(text).context("iperf3 printed no JSON")?;
    if let Some(error) = value["error"].as_str() {
        anyhow::bail!("iperf3: {error}");
    }
    let received = &value["end"]["sum_received"];
    Ok(Outcome {
        done: received["bytes"].as_u64().context("iperf3 received no bytes")?,
        failed: 0,
        seconds: received["seconds"].as_f64().context("iperf3 measured no time")?,
        latency: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        // The part of iperf 3.12's that is used.
        let report = r#"{"end": {"sum_sent": {"start": 0, "end": 1.000176, "seconds": 1.000176,
            "bytes": 1165230080, "bits_per_second": 9320200284.749884, "retransmits": 12,
            "sender": true}, "sum_received": {"start": 0, "end": 1.000597, "seconds": 1.000597,
            "bytes": 1159856128, "bits_per_second": 9273312856.224834, "sender": true}}}"#;
        let outcome = parse(report).unwrap();
        assert_eq!(outcome.done, 1_159_856_128);
        assert_eq!(outcome.seconds, 1.000_597);
    }

    #[test]
    fn its_errors_are_passed_on() {
        let report = r#"{"start": {}, "intervals": [], "end": {}, "error": "error - unable to connect to server: Connection refused"}"#;
        assert!(parse(report).unwrap_err().to_string().contains("Connection refused"));
    }
}
