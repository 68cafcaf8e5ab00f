//! What has to be reached, as ratios in one run, and whether it is.

use super::{
    contender::Contender,
    load::Latency,
    result::{Results, Row, Sample},
};

/// One line of the table of goals.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub what: String,
    /// `≥ 1.3 ×` or `≤ 15 MiB`.
    pub goal: String,
    /// `None`: not measured in this run.
    pub measured: Option<f64>,
    /// The same with payload that goes past TCP, where that is possible.
    pub past_tcp: Option<f64>,
    pub met: Option<Met>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Yes,
    PastTcp,
    No,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A number of a row.
#[derive(Clone, Copy)]
enum Metric {
    Rate,
    ProxyCpu,
    PathCpu,
    P50,
    P99,
}

/// Of one scenario: ours against another's.
struct Ratio {
    what: &'static str,
    scenario: &'static str,
    metric: Metric,
    ours: &'static str,
    theirs: &'static str,
    bound: Bound,
}

const fn ratio(
    what: &'static str,
    scenario: &'static str,
    metric: Metric,
    (ours, theirs): (&'static str, &'static str),
    bound: Bound,
) -> Ratio {
    Ratio { what, scenario, metric, ours, theirs, bound }
}

use Bound::{AtLeast, AtMost};
use Metric::{P50, P99, PathCpu, ProxyCpu, Rate};

const RATIOS: [Ratio; 35] = [
    ratio("kernel path, requests/s", "http-32", Rate, ("kernel", "direct"), AtLeast(0.98)),
    ratio("kernel path, p50", "tcp-ping", P50, ("kernel", "direct"), AtMost(1.02)),
    ratio("kernel path, connects/s", "tcp-new", Rate, ("kernel", "direct"), AtLeast(0.98)),
    ratio("kernel path, bulk", "tcp-bulk", Rate, ("kernel", "direct"), AtLeast(0.98)),
    ratio("kernel path, UDP", "udp-ping", Rate, ("kernel", "direct"), AtLeast(0.98)),
    ratio("kernel path, CPU of the path", "http-32", PathCpu, ("kernel", "direct"), AtMost(1.03)),
    ratio("kernel path, requests/s", "http-32", Rate, ("kernel", "iptables"), AtLeast(1.3)),
    ratio("one node, requests/s", "http-32", Rate, ("node", "direct"), AtLeast(1.3)),
    ratio("one node, CPU of the path", "http-32", PathCpu, ("node", "direct"), AtMost(0.75)),
    ratio("one node, connects/s", "tcp-new", Rate, ("node", "direct"), AtLeast(0.95)),
    ratio("proxy path, requests/s", "http-32", Rate, ("proxy", "envoy"), AtLeast(3.2)),
    ratio("proxy path, requests/s", "http-32", Rate, ("proxy", "sidecar"), AtLeast(3.2)),
    ratio("proxy path, requests/s", "http-32", Rate, ("proxy", "pair"), AtLeast(8.0)),
    ratio("proxy path, requests/s", "http-32", Rate, ("proxy", "haproxy"), AtLeast(1.35)),
    ratio("proxy path, requests/s", "http-32", Rate, ("proxy", "nginx"), AtLeast(1.35)),
    ratio("CPU of the proxy", "http-32", ProxyCpu, ("proxy", "haproxy"), AtMost(1.0)),
    ratio("CPU of the path", "http-32", PathCpu, ("proxy", "sidecar"), AtMost(0.27)),
    ratio("CPU of the path", "http-32", PathCpu, ("proxy", "pair"), AtMost(0.12)),
    ratio("CPU of the path", "http-32", PathCpu, ("proxy", "haproxy"), AtMost(0.8)),
    ratio("p99 at equal load", "http-paced", P99, ("proxy", "envoy"), AtMost(0.5)),
    ratio("p99 at equal load", "http-paced", P99, ("proxy", "sidecar"), AtMost(0.5)),
    ratio("HTTP/2, 1 stream", "h2-1", Rate, ("proxy", "envoy"), AtLeast(2.5)),
    ratio("HTTP/2, 1 stream", "h2-1", Rate, ("proxy", "haproxy"), AtLeast(1.0)),
    ratio("HTTP/2, 100 streams", "h2-100", Rate, ("proxy", "envoy"), AtLeast(2.5)),
    ratio("HTTP/2, 100 streams", "h2-100", Rate, ("proxy", "haproxy"), AtLeast(1.0)),
    ratio("gRPC", "grpc", Rate, ("proxy", "envoy"), AtLeast(2.5)),
    ratio("gRPC", "grpc", Rate, ("proxy", "haproxy"), AtLeast(1.0)),
    ratio("TCP bulk", "tcp-bulk", Rate, ("proxy", "direct"), AtLeast(0.9)),
    ratio("TCP bulk", "tcp-bulk", Rate, ("proxy", "sidecar"), AtLeast(1.5)),
    ratio("TCP request/response", "tcp-32", Rate, ("proxy", "sidecar"), AtLeast(1.5)),
    ratio("TCP request/response", "tcp-32", Rate, ("proxy", "haproxy"), AtLeast(1.2)),
    ratio("new connections/s, HTTP", "http-new", Rate, ("proxy", "envoy"), AtLeast(2.5)),
    ratio("new connections/s, HTTP", "http-new", Rate, ("proxy", "haproxy"), AtLeast(1.2)),
    ratio("new connections/s, TCP", "tcp-new", Rate, ("proxy", "envoy"), AtLeast(2.5)),
    ratio("new connections/s, TCP", "tcp-new", Rate, ("proxy", "haproxy"), AtLeast(1.2)),
];

/// Of the agent alone: what, scenario, the fact's name, at most, its unit.
const FACTS: [(&str, &str, &str, f64, &str); 7] = [
    ("memory, idle", "idle", "memory", 15.0, "MiB"),
    ("memory, 1,000 services × 10", "scale-1k", "memory", 30.0, "MiB"),
    ("memory, 10,000 services × 10", "scale-10k", "memory", 120.0, "MiB"),
    ("change to effect, median", "scale-10k", "change p50", 5.0, "ms"),
    ("change to effect, p99", "scale-10k", "change p99", 20.0, "ms"),
    ("captured pod, memory", "idle", "memory per pod", 64.0, "KiB"),
    // What 100 pods cost is measured over 10 s: less than this is noise.
    ("captured pod, processor", "idle", "processor per pod", 0.001, "% of a core"),
];

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            AtLeast(least) => format!("≥ {least}"),
            AtMost(most) => format!("≤ {most}"),
        }
    }
}

impl Metric {
    fn of(self, row: &Row) -> Option<f64> {
        let latency = |value: fn(&Latency) -> f64| row.latency(value);
        let sample = |value: fn(&Sample) -> f64| row.median(value);
        match self {
            Rate => sample(|sample| sample.rate),
            ProxyCpu => sample(|sample| sample.proxy_cpu),
            PathCpu => sample(|sample| sample.path_cpu),
            P50 => latency(|latency| latency.p50),
            P99 => latency(|latency| latency.p99),
        }
    }
}

/// All goals against these results.
pub fn judge(results: &Results) -> Vec<Verdict> {
    let ratios = RATIOS.iter().map(|ratio| {
        let value = |contender| ratio.metric.of(results.row(ratio.scenario, contender)?);
        let beside = |ours: &'static str| {
            (value(ours).zip(value(ratio.theirs)))
                .filter(|(_, theirs)| *theirs > 0.0)
                .map(|(ours, theirs)| ours / theirs)
        };
        let (measured, past_tcp) = (beside(ratio.ours), past_tcp(ratio.ours).and_then(beside));
        let holds = |value: Option<f64>| value.is_some_and(|value| ratio.bound.holds(value));
        let met = match (holds(measured), holds(past_tcp)) {
            (true, _) => Met::Yes,
            (false, true) => Met::PastTcp,
            (false, false) => Met::No,
        };
        Verdict {
            what: format!("{} ({})", ratio.what, ratio.scenario),
            goal: format!("{} × {}", ratio.bound.text(), ratio.theirs),
            measured,
            past_tcp,
            met: measured.or(past_tcp).map(|_| met),
        }
    });
    let facts = FACTS.iter().map(|(what, scenario, name, most, unit)| {
        let measured = results.fact(scenario, name);
        Verdict {
            what: (*what).to_owned(),
            goal: format!("≤ {most} {unit}"),
            measured,
            past_tcp: None,
            met: measured.map(|value| if value <= *most { Met::Yes } else { Met::No }),
        }
    });
    ratios.chain(facts).collect()
}

/// Who does the same past TCP.
fn past_tcp(ours: &str) -> Option<&'static str> {
    match ours {
        "node" => Some(Contender::Bypass.name()),
        "proxy" => Some(Contender::ProxyBypass.name()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        machine::{Cores, Machine},
        result::{Comparison, Fact},
        scenario,
    };

    fn results(ours: f64, theirs: f64) -> Results {
        let row = |contender: &str, rate: f64| Row {
            contender: contender.to_owned(),
            rounds: vec![Sample { rate, ..Sample::default() }],
            problem: None,
        };
        let rows = vec![row("proxy", ours), row("envoy", theirs)];
        let cores = Cores::of_this_machine().unwrap();
        Results {
            machine: Machine::look(&cores, None),
            rounds: 1,
            seconds: 1,
            comparisons: vec![Comparison { scenario: "http-32".to_owned(), pace: None, rows }],
            facts: vec![Fact {
                scenario: "idle".to_owned(),
                name: "memory".to_owned(),
                value: 16.0,
                unit: "MiB".to_owned(),
            }],
        }
    }

    fn verdict(results: &Results, what: &str, goal: &str) -> Verdict {
        let all = judge(results);
        all.into_iter().find(|found| found.what.starts_with(what) && found.goal == goal).unwrap()
    }

    #[test]
    fn a_ratio_is_met_or_missed() {
        let (what, goal) = ("proxy path, requests/s", "≥ 3.2 × envoy");
        let met = verdict(&results(33.0, 10.0), what, goal);
        assert_eq!((met.measured, met.met), (Some(3.3), Some(Met::Yes)));
        let missed = verdict(&results(30.0, 10.0), what, goal);
        assert_eq!(missed.met, Some(Met::No));
        let mut both = results(30.0, 10.0);
        let mut past = both.comparisons[0].rows[0].clone();
        past.contender = "proxy-bypass".to_owned();
        past.rounds[0].rate = 40.0;
        both.comparisons[0].rows.push(past);
        let past = verdict(&both, what, goal);
        assert_eq!((past.past_tcp, past.met), (Some(4.0), Some(Met::PastTcp)));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let unknown = verdict(&results(1.0, 1.0), "p99 at equal load", "≤ 0.5 × envoy");
        assert_eq!((unknown.measured, unknown.met), (None, None));
        let fact = verdict(&results(1.0, 1.0), "memory, idle", "≤ 15 MiB");
        assert_eq!((fact.measured, fact.met), (Some(16.0), Some(Met::No)));
    }

    #[test]
    fn goals_name_what_exists() {
        let is_contender = |name: &str| Contender::ALL.iter().any(|one| one.name() == name);
        for ratio in &RATIOS {
            assert!(scenario::named(ratio.scenario).is_some(), "{}", ratio.scenario);
            assert!(is_contender(ratio.ours) && is_contender(ratio.theirs), "{}", ratio.what);
        }
    }
}
