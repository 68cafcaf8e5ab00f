//! Checks of a policy: what its keys say together, and what a service's ports
//! and path can keep of it.

use std::time::Duration;

use super::{Reporter, Step};
use crate::{
    config::{
        raw::{
            AdaptiveConcurrency, Bandwidth, Failover, HealthCheck, Over, Policy, RateLimit, Retry,
            Service, on,
        },
        text,
    },
    model::{Algorithm, HashOn, LimitBy, PathChoice, Protocol, Transport},
};

/// Where a policy, or a part of it, stands.
pub struct At<'a>(pub Vec<Step<'a>>);

impl<'a> At<'a> {
    pub fn key(&self, key: impl Into<Step<'a>>) -> Self {
        Self([&self.0[..], &[key.into()]].concat())
    }
}

/// `over` is what stands under it: its problems are reported there.
pub fn check(
    here: &[Step<'_>],
    policy: &Policy,
    over: Option<&Policy>,
    reporter: &mut Reporter<'_>,
) {
    let at = At(here.to_vec());
    let nothing = Policy::default();
    let whole = policy.over(over.unwrap_or(&nothing));
    above_zero(&at, policy, reporter);
    balancing(&at, policy, over.map(|_| &whole), reporter);
    if policy.failover.is_some() {
        failover(&at.key("failover"), whole.failover.as_ref(), reporter);
    }
    if let Some(own) = &policy.retry {
        retry(&at.key("retry"), own, &whole, reporter);
    }
    if let Some(own) = on(&policy.health_check) {
        health_check(&at.key("healthCheck"), own, on(&whole.health_check), reporter);
    }
    if on(&policy.bandwidth).is_some() {
        bandwidth(&at.key("bandwidth"), on(&whole.bandwidth), reporter);
    }
    if on(&policy.adaptive_concurrency).is_some() {
        let whole = on(&whole.adaptive_concurrency);
        adaptive_concurrency(&at.key("adaptiveConcurrency"), whole, reporter);
    }
    rate_limits(&at.key("rateLimit"), policy.rate_limits(), reporter);
}

fn above_zero(at: &At<'_>, policy: &Policy, reporter: &mut Reporter<'_>) {
    let mut durations: Vec<(&[&'static str], Option<text::Duration>)> = Vec::new();
    if let Some(timeout) = &policy.timeout {
        durations.push((&["timeout", "connect"], timeout.connect));
        durations.push((&["timeout", "idle"], timeout.idle));
    }
    if let Some(client) = on(&policy.session_affinity).and_then(|a| a.client_ip.as_ref()) {
        durations.push((&["sessionAffinity", "clientIP", "timeout"], client.timeout));
    }
    if let Some(slow) = on(&policy.slow_start) {
        durations.push((&["slowStart", "window"], slow.window));
    }
    if let Some(failover) = &policy.failover {
        durations.push((&["failover", "base"], failover.base));
        durations.push((&["failover", "max"], failover.max));
    }
    if let Some(retry) = &policy.retry {
        let backoff = retry.backoff.clone().unwrap_or_default();
        durations.push((&["retry", "perTryTimeout"], retry.per_try_timeout));
        durations.push((&["retry", "backoff", "base"], backoff.base));
        durations.push((&["retry", "backoff", "max"], backoff.max));
    }
    if let Some(check) = on(&policy.health_check) {
        durations.push((&["healthCheck", "interval"], check.interval));
        durations.push((&["healthCheck", "timeout"], check.timeout));
    }
    if let Some(adaptive) = on(&policy.adaptive_concurrency) {
        durations.push((&["adaptiveConcurrency", "interval"], adaptive.interval));
        durations.push((&["adaptiveConcurrency", "window"], adaptive.window));
    }
    for (keys, duration) in durations {
        let Some(duration) = duration else { continue };
        let keys: Vec<Step<'_>> = keys.iter().map(|&key| key.into()).collect();
        reporter.above_zero(&[&at.0[..], &keys].concat(), duration);
    }
}

/// `whole` where this is a service's, not the defaults'.
fn balancing(at: &At<'_>, policy: &Policy, whole: Option<&Policy>, reporter: &mut Reporter<'_>) {
    if on(&policy.session_affinity).is_some_and(|affinity| affinity.client_ip.is_none()) {
        let message = "names no kind of affinity: write `{clientIP: {}}`".into();
        reporter.missing(&at.key("sessionAffinity").0, message);
    }
    let own_hash = policy.load_balancer.as_ref().and_then(|balancer| balancer.full().hash_on);
    let algorithm = whole.map(|whole| whole.model().algorithm);
    if let (Some(_), Some(algorithm)) = (own_hash, algorithm)
        && algorithm != Algorithm::ConsistentHash
        && reporter.is_spotless(&at.key("loadBalancer").0)
    {
        let message = format!(
            "has no effect with `{algorithm}`: set `algorithm: consistentHash`, or remove it"
        );
        reporter.report(&at.key("loadBalancer").key("hashOn").0, message);
    }
}

fn failover(at: &At<'_>, whole: Option<&Failover>, reporter: &mut Reporter<'_>) {
    let Some(whole) = whole else { return };
    let model = whole.model();
    if model.base > model.max {
        let message = longer(model.base, "the longest exile, `max`,", model.max);
        reporter.report(&at.key("base").0, message);
    }
    const LARGEST: usize = 64 << 20;
    if model.replay > LARGEST {
        reporter.report(&at.key("replay").0, "is too large: at most `64MiB`".into());
    }
}

/// Of a policy or of a route; `whole` is the policy that it stands in.
pub fn retry(at: &At<'_>, own: &Retry, whole: &Policy, reporter: &mut Reporter<'_>) {
    for (index, condition) in own.on.iter().flatten().enumerate() {
        let before = own.on.iter().flatten().take(index);
        if before.into_iter().any(|other| other == condition) {
            reporter.report(&at.key("on").key(index).0, "stands here twice; remove one".into());
        }
    }
    let merged = own.over(whole.retry.as_ref().unwrap_or(&Retry::default())).model();
    let (base, max) = (merged.backoff.base, merged.backoff.max);
    if base > max {
        let message = longer(base, "the longest wait, `max`,", max);
        reporter.report(&at.key("backoff").key("base").0, message);
    }
    let request = whole.model().timeouts.request;
    // Where only the time for all is set here, it cuts an attempt short as well.
    let each = own.per_try_timeout.map(|each| each.0);
    if let (Some(each), Some(request)) = (each, request)
        && each > request
    {
        let message = longer(each, "the whole request may take, `timeout.request`,", request);
        reporter.report(&at.key("perTryTimeout").0, message);
    }
}

fn health_check(
    at: &At<'_>,
    own: &HealthCheck,
    whole: Option<&HealthCheck>,
    reporter: &mut Reporter<'_>,
) {
    if let [first, second, ..] = own.kinds().as_slice() {
        let message = format!("has both `{first}` and `{second}`: keep one of them");
        reporter.report(&at.0, message);
    } else if whole.is_none_or(|whole| whole.kinds().is_empty()) {
        let message =
            "doesn't say how to ask: add `tcp: {}`, `http: {path: /healthz}` or `grpc: {}`";
        reporter.missing(&at.0, message.into());
    }
}

fn bandwidth(at: &At<'_>, whole: Option<&Bandwidth>, reporter: &mut Reporter<'_>) {
    let Some(whole) = whole else { return };
    if whole.upload.is_none() && whole.download.is_none() {
        let message = "limits neither direction: add `upload`, `download` or both";
        reporter.missing(&at.0, message.into());
    }
    for (key, rate) in [("upload", whole.upload), ("download", whole.download)] {
        // Less than two full packets each second can't be held evenly.
        const LEAST: usize = 4096;
        if rate.is_some_and(|rate| rate.0 < LEAST) {
            reporter.report(&at.key(key).0, "must be at least `4KiB` (per second)".into());
        }
    }
}

fn adaptive_concurrency(
    at: &At<'_>,
    whole: Option<&AdaptiveConcurrency>,
    reporter: &mut Reporter<'_>,
) {
    let Some(model) = whole.map(AdaptiveConcurrency::model) else { return };
    if model.min > model.max {
        let message = format!("must be at most `max`, which is {}", model.max);
        reporter.report(&at.key("min").0, message);
    }
    if model.interval > model.window {
        let message = longer(model.interval, "`window`,", model.window);
        reporter.report(&at.key("interval").0, message);
    }
}

fn rate_limits(at: &At<'_>, limits: &[RateLimit], reporter: &mut Reporter<'_>) {
    let most = crate::model::RateLimit::MOST;
    if limits.len() > most {
        let message = format!("has {} limits, and {most} are the most", limits.len());
        reporter.report(&at.0, message);
    }
    for (index, limit) in limits.iter().enumerate() {
        if let Some(per) = limit.per {
            reporter.above_zero(&at.key(index).key("per").0, per);
        }
    }
}

/// What the ports and the path of a service can't keep of its own policy. From
/// the defaults it takes what it can.
pub fn check_service(
    here: &[Step<'_>],
    service: &Service,
    defaults: &Policy,
    reporter: &mut Reporter<'_>,
) {
    if service.policy == Policy::default() {
        return;
    }
    let at = At(here.to_vec()).key("policy");
    check(&at.0, &service.policy, Some(defaults), reporter);
    let protocols: Vec<Protocol> =
        service.ports.iter().flatten().map(|port| port.protocol.into()).collect();
    if protocols.is_empty() {
        return;
    }
    let own = &service.policy;
    if let Some(why) = no_requests(service) {
        requests(&at, own, &why, reporter);
    }
    datagrams(&at, own, &protocols, reporter);
    if own.bypass == Some(true) {
        bypass(&at.key("bypass"), service, &own.over(defaults), reporter);
    }
}

/// What takes packets apart needs packets.
fn bypass(at: &At<'_>, service: &Service, whole: &Policy, reporter: &mut Reporter<'_>) {
    let kernel = PathChoice::from(service.path) == PathChoice::Kernel;
    let timed = whole.model().algorithm == Algorithm::LeastResponseTime;
    let other = if on(&whole.bandwidth).is_some() {
        "`bandwidth`, which paces packets"
    } else if kernel && on(&whole.adaptive_concurrency).is_some() {
        "`adaptiveConcurrency` on the kernel path, which times packets"
    } else if kernel && timed {
        "`leastResponseTime` on the kernel path, which times packets"
    } else {
        return;
    };
    reporter.report(
        &at.0,
        format!(
            "takes payload past TCP, without packets, and can't be with {other}: remove one of them"
        ),
    );
}

/// Why nobody reads requests of this service.
pub fn no_requests(service: &Service) -> Option<String> {
    let kernel = PathChoice::from(service.path) == PathChoice::Kernel;
    let ports = service.ports.as_deref().unwrap_or_default();
    let mut protocols = ports.iter().map(|port| Protocol::from(port.protocol));
    if kernel {
        return Some("with `path: kernel` nobody reads requests: use `path: auto`".into());
    }
    let none = protocols.len() > 0
        && protocols.all(|protocol| !protocol.is_http() && protocol != Protocol::Auto);
    none.then(|| "none of the service's ports speaks HTTP: set their `protocol`".into())
}

fn requests(at: &At<'_>, own: &Policy, why: &str, reporter: &mut Reporter<'_>) {
    let hash_on = own.load_balancer.as_ref().and_then(|balancer| balancer.full().hash_on);
    if hash_on.is_some_and(|hash| hash.0 != HashOn::Source) {
        let message = format!("can only be `source`: {why}");
        reporter.report(&at.key("loadBalancer").key("hashOn").0, message);
    }
    for (index, limit) in own.rate_limits().iter().enumerate() {
        if let Some(text::LimitBy(LimitBy::Header(_))) = limit.by {
            let message = format!("can't be a header: {why}");
            reporter.report(&at.key("rateLimit").key(index).key("by").0, message);
        }
    }
    let request = own.timeout.as_ref().and_then(|timeout| timeout.request);
    if request.is_some_and(|limit| limit.0 > Duration::ZERO) {
        let message = format!("can't be held: {why}");
        reporter.report(&at.key("timeout").key("request").0, message);
    }
    let per_try = own.retry.as_ref().and_then(|retry| retry.per_try_timeout);
    if per_try.is_some() {
        let message = format!("can't be held: {why}");
        reporter.report(&at.key("retry").key("perTryTimeout").0, message);
    }
}

fn datagrams(at: &At<'_>, own: &Policy, protocols: &[Protocol], reporter: &mut Reporter<'_>) {
    let udp = |protocol: &&Protocol| protocol.transport() == Transport::Udp;
    let count = protocols.iter().filter(udp).count();
    if count > 0 && on(&own.bandwidth).is_some() {
        let message = "can't be held for a `udp` port: make that port a service of its own";
        reporter.report(&at.key("bandwidth").0, message.into());
    }
    if count < protocols.len() {
        return;
    }
    if on(&own.adaptive_concurrency).is_some() {
        let message = "needs answers to measure, and the service's ports are all `udp`";
        reporter.report(&at.key("adaptiveConcurrency").0, message.into());
    }
    if own.bypass == Some(true) {
        let message = "is for TCP, and the service's ports are all `udp`";
        reporter.report(&at.key("bypass").0, message.into());
    }
    if on(&own.health_check).is_some_and(|check| check.port.is_none()) {
        let message = "asks by TCP, and the service's ports are all `udp`: say which `port` to ask";
        reporter.report(&at.key("healthCheck").0, message.into());
    }
}

fn longer(is: Duration, than: &str, limit: Duration) -> String {
    use text::Form as _;
    let [is, limit] = [is, limit].map(|duration| text::Duration(duration).write());
    format!("`{is}` is longer than {than} which is `{limit}`")
}
