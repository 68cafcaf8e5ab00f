//! What was counted so far, for those who look at differences.

use serde::{Deserialize, Serialize};

use super::EndpointState;

/// `mesh-agent top` asks for this again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// On a clock that only goes forward.
    pub at_us: u64,
    /// RFC 3339, in UTC.
    pub time: String,
    pub ports: Vec<PortTraffic>,
}

/// Of one service port, since the agent started; what the kernel counts, since
/// it knows the port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortTraffic {
    pub service: String,
    pub port: u16,
    pub protocol: String,
    /// `kernel` or `proxy`.
    pub path: String,
    pub requests: u64,
    /// Connections, by the path that they took.
    pub kernel: u64,
    pub proxied: u64,
    /// Requests and connections that failed or were refused.
    pub errors: u64,
    pub retries: u64,
    /// Connections that are open now.
    pub open: u64,
    pub instances: Vec<InstanceTraffic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTraffic {
    pub address: String,
    pub state: EndpointState,
    /// Requests or connections under way.
    pub in_flight: u64,
    pub picks: u64,
    pub failures: u64,
    pub ejections: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Moving average; on the kernel path of handshakes, or answers.
    pub response_time_us: Option<u64>,
    /// How many answers took up to how many µs, where any did: pairs of the
    /// bound and the number above the bound before. On the proxy path.
    pub times: Vec<(u64, u64)>,
}

/// The time that this part (0 to 1) of the answers kept to, by their buckets:
/// see [`ResponseTimes`](crate::balance::ResponseTimes).
pub fn quantile(times: &[(u64, u64)], part: f64) -> Option<u64> {
    let all: u64 = times.iter().map(|(_, count)| count).sum();
    let mut rank = (all as f64 * part).ceil().max(1.0) as u64;
    for &(bound, count) in times {
        if rank <= count {
            // A bucket is a quarter of its octave; inside, all are taken for equal.
            let width = bound.checked_ilog2().map_or(1, |octave| 1_u64 << octave.saturating_sub(2));
            let passed = width as f64 * (count - rank) as f64 / count as f64;
            return Some(bound - passed as u64);
        }
        rank -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[], 0.5), None);
        let times = [(1_023, 98), (20_479, 2)];
        assert_eq!(quantile(&times, 1.0), Some(20_479));
        let half = quantile(&times, 0.5).unwrap();
        assert!((896..1_023).contains(&half), "{half}");
        let late = quantile(&times, 0.99).unwrap();
        assert!((16_384..20_479).contains(&late), "{late}");
        assert_eq!(quantile(&[(0, 3)], 0.5), Some(0));
    }
}
