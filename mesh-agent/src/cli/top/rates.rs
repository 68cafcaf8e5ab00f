//! What happened between two looks at the counters. Pure.

use serde::Serialize;

use crate::admin::{EndpointState, InstanceTraffic, PortTraffic, Traffic, quantile};

/// `mesh-agent top -o json`: one of these for each interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// Of its end: RFC 3339, in UTC.
    pub time: String,
    pub seconds: f64,
    pub services: Vec<PortRates>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRates {
    pub service: String,
    pub port: u16,
    pub protocol: String,
    /// `kernel` or `proxy`.
    pub path: String,
    pub requests_per_second: f64,
    pub connections_per_second: f64,
    /// Open now.
    pub connections: u64,
    #[serde(flatten)]
    pub rates: Rates,
    pub retries_per_second: f64,
    pub instances: Vec<InstanceRates>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRates {
    pub address: String,
    pub state: EndpointState,
    /// Requests or connections that it was picked for.
    pub picks_per_second: f64,
    #[serde(flatten)]
    pub rates: Rates,
}

/// What is told of services and of instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    pub in_flight: u64,
    /// `None` where nothing happened.
    pub success_percent: Option<f64>,
    pub errors_per_second: f64,
    /// Until the first byte of an answer, on the proxy path.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// Moving average; on the kernel path of handshakes, or answers.
    pub average_us: Option<u64>,
    pub bytes_sent_per_second: f64,
    pub bytes_received_per_second: f64,
    /// In this interval.
    pub ejections: u64,
}

impl Rates {
    pub fn bytes(&self) -> f64 {
        self.bytes_sent_per_second + self.bytes_received_per_second
    }

    fn latency(&self) -> u64 {
        self.p99_us.or(self.average_us).unwrap_or(0)
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// Most requests and connections
    #[default]
    Rate,
    /// The slowest, by p99
    Latency,
    /// Most errors
    Errors,
    /// Most bytes
    Bytes,
}

impl Interval {
    /// Between two looks; of one service, or of all.
    pub fn new(before: &Traffic, after: &Traffic, service: Option<&str>) -> Self {
        let elapsed = after.at_us.saturating_sub(before.at_us).max(1);
        let span = Span { seconds: elapsed as f64 / 1e6 };
        let wanted = |port: &&PortTraffic| service.is_none_or(|name| port.service == name);
        let services = after.ports.iter().filter(wanted).map(|now| {
            let same = |one: &&PortTraffic| {
                (&one.service, one.port, &one.protocol) == (&now.service, now.port, &now.protocol)
            };
            span.port(before.ports.iter().find(same), now)
        });
        Self { time: after.time.clone(), seconds: span.seconds, services: services.collect() }
    }

    pub fn sort(&mut self, by: Order) {
        self.services
            .sort_by(|a, b| key(by, b.rate(), &b.rates).total_cmp(&key(by, a.rate(), &a.rates)));
        for port in &mut self.services {
            port.instances.sort_by(|a, b| {
                let of = |one: &InstanceRates| key(by, one.picks_per_second, &one.rates);
                of(b).total_cmp(&of(a))
            });
        }
    }
}

fn key(by: Order, rate: f64, rates: &Rates) -> f64 {
    match by {
        Order::Rate => rate,
        Order::Latency => rates.latency() as f64,
        Order::Errors => rates.errors_per_second,
        Order::Bytes => rates.bytes(),
    }
}

impl PortRates {
    fn rate(&self) -> f64 {
        self.requests_per_second.max(self.connections_per_second)
    }
}

struct Span {
    seconds: f64,
}

/// How much a counter grew. One that is smaller began anew: with the agent, or
/// with the instance.
fn grown(before: u64, after: u64) -> u64 {
    after.checked_sub(before).unwrap_or(after)
}

impl Span {
    fn rate(&self, count: u64) -> f64 {
        (count as f64 / self.seconds * 100.0).round() / 100.0
    }

    fn port(&self, before: Option<&PortTraffic>, now: &PortTraffic) -> PortRates {
        // A port that is new counts from its first look: it has no past here.
        let before = before.unwrap_or(now);
        let more = |of: fn(&PortTraffic) -> u64| grown(of(before), of(now));
        let requests = more(|port| port.requests);
        let connections = more(|port| port.kernel) + more(|port| port.proxied);
        let errors = more(|port| port.errors);
        let pairs: Vec<_> = (now.instances.iter())
            .map(|instance| {
                let same = |one: &&InstanceTraffic| one.address == instance.address;
                (before.instances.iter().find(same), instance)
            })
            .collect();
        let mut rates = Rates::default();
        let mut times = Vec::new();
        for &(before, now) in &pairs {
            let more = |of: fn(&InstanceTraffic) -> u64| grown(before.map_or(0, of), of(now));
            rates.in_flight += now.in_flight;
            rates.bytes_sent_per_second += self.rate(more(|one| one.bytes_sent));
            rates.bytes_received_per_second += self.rate(more(|one| one.bytes_received));
            rates.ejections += more(|one| one.ejections);
            times.extend(new_times(before, now));
        }
        let averages: Vec<_> =
            now.instances.iter().filter_map(|one| one.response_time_us).collect();
        rates.average_us = averages.iter().sum::<u64>().checked_div(averages.len() as u64);
        times.sort_unstable();
        (rates.p50_us, rates.p99_us) = (quantile(&times, 0.5), quantile(&times, 0.99));
        rates.errors_per_second = self.rate(errors);
        rates.success_percent = success(requests.max(connections), errors);
        PortRates {
            service: now.service.clone(),
            port: now.port,
            protocol: now.protocol.clone(),
            path: now.path.clone(),
            requests_per_second: self.rate(requests),
            connections_per_second: self.rate(connections),
            connections: now.open,
            rates,
            retries_per_second: self.rate(more(|port| port.retries)),
            instances: pairs.iter().map(|&(before, now)| self.instance(before, now)).collect(),
        }
    }

    fn instance(&self, before: Option<&InstanceTraffic>, now: &InstanceTraffic) -> InstanceRates {
        let more = |of: fn(&InstanceTraffic) -> u64| grown(before.map_or(0, of), of(now));
        let (picks, failures) = (more(|one| one.picks), more(|one| one.failures));
        let times = new_times(before, now);
        InstanceRates {
            address: now.address.clone(),
            state: now.state,
            picks_per_second: self.rate(picks),
            rates: Rates {
                in_flight: now.in_flight,
                success_percent: success(picks, failures),
                errors_per_second: self.rate(failures),
                p50_us: quantile(&times, 0.5),
                p99_us: quantile(&times, 0.99),
                average_us: now.response_time_us,
                bytes_sent_per_second: self.rate(more(|one| one.bytes_sent)),
                bytes_received_per_second: self.rate(more(|one| one.bytes_received)),
                ejections: more(|one| one.ejections),
            },
        }
    }
}

/// Errors may come without what they are part of: of what began earlier.
fn success(all: u64, errors: u64) -> Option<f64> {
    let all = all.max(errors);
    (all > 0).then(|| ((all - errors) as f64 / all as f64 * 10_000.0).round() / 100.0)
}

fn new_times(before: Option<&InstanceTraffic>, now: &InstanceTraffic) -> Vec<(u64, u64)> {
    let known = |bound| {
        let times = before.map_or(&[][..], |before| &before.times);
        times.iter().find(|(other, _)| *other == bound).map_or(0, |(_, count)| *count)
    };
    let more = now.times.iter().map(|&(bound, count)| (bound, grown(known(bound), count)));
    more.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::sample::traffic;

    fn interval(before: u64, after: u64) -> Interval {
        Interval::new(&traffic(before), &traffic(after), None)
    }

    #[test]
    fn rates_are_differences() {
        let interval = interval(1, 3);
        let [reviews, database] = &interval.services[..] else { panic!() };
        assert_eq!(interval.seconds, 2.0);
        assert_eq!((reviews.requests_per_second, reviews.connections_per_second), (1000.0, 3.0));
        assert_eq!(reviews.rates.success_percent, Some(99.0));
        assert_eq!(reviews.rates.ejections, 2);
        assert!((896..=1_023).contains(&reviews.rates.p50_us.unwrap()));
        assert!((16_384..=20_479).contains(&reviews.rates.p99_us.unwrap()));
        assert_eq!(database.connections_per_second, 50.0);
        assert_eq!((database.rates.p50_us, database.rates.average_us), (None, Some(1_234)));
        assert_eq!(reviews.instances[1].rates.success_percent, Some(97.5));
    }

    #[test]
    fn an_agent_that_began_anew_makes_no_nonsense() {
        let interval = interval(5, 1);
        assert_eq!(interval.services[0].rates.success_percent, Some(99.0));
        let quiet = super::tests::interval(2, 2);
        assert_eq!(quiet.services[0].rates.success_percent, None);
        assert_eq!(quiet.services[0].requests_per_second, 0.0);
    }

    #[test]
    fn the_order_is_as_asked() {
        let mut interval = interval(1, 2);
        interval.sort(Order::Rate);
        assert_eq!(interval.services[0].service, "reviews");
        assert_eq!(interval.services[0].instances[0].address, "10.1.0.5:9080");
        interval.sort(Order::Errors);
        assert_eq!(interval.services[0].instances[0].address, "[fd00:10:1::6]:9080");
        let only = Interval::new(&traffic(1), &traffic(2), Some("reviews"));
        assert_eq!(only.services.len(), 1);
    }
}
