//! Checks of where instances come from.

use std::time::Duration;

use super::{Reporter, Step, policy::At};
use crate::config::raw::{DnsSource, File, HttpSource, KubernetesSource, Service, Several};

pub fn check(here: &[Step<'_>], service: &Service, file: &File, reporter: &mut Reporter<'_>) {
    let at = At(here.to_vec()).key("endpoints");
    let dns = service.endpoints.dns.iter().flat_map(Several::as_slice);
    for (index, source) in dns.enumerate() {
        self::dns(&at.key("dns").key(index), source, reporter);
    }
    let http = service.endpoints.http.iter().flat_map(Several::as_slice);
    for (index, source) in http.enumerate() {
        self::http(&at.key("http").key(index), source, reporter);
    }
    let kubernetes = service.endpoints.kubernetes.iter().flat_map(Several::as_slice);
    for index in 0..kubernetes.count() {
        if !file.kubernetes.enabled {
            let message = "needs a cluster to watch: set `kubernetes: {enabled: true}`".into();
            reporter.report(&at.key("kubernetes").key(index).0, message);
        }
    }
    repeated(&at, service, reporter);
}

fn dns(at: &At<'_>, source: &DnsSource, reporter: &mut Reporter<'_>) {
    if let Some(timeout) = source.timeout {
        reporter.above_zero(&at.key("timeout").0, timeout);
    }
    let Some(model) = source.model() else { return };
    if source.ttl.is_some() && model.ttl_min > model.ttl_max {
        let message = "is longer than `max`: no time would fit".into();
        reporter.report(&at.key("ttl").key("min").0, message);
    }
    // A record of 0 s would be asked for without a pause.
    if model.ttl_min < Duration::from_millis(100) {
        reporter.report(&at.key("ttl").key("min").0, "must be at least `100ms`".into());
    }
    let srv = model.record == crate::model::DnsRecord::Srv;
    for (key, set) in [("port", source.port.is_some()), ("weight", source.weight.is_some())] {
        if srv && set {
            let message = format!("SRV records bring their own {key}: remove it");
            reporter.report(&at.key(key).0, message);
        }
    }
}

fn http(at: &At<'_>, source: &HttpSource, reporter: &mut Reporter<'_>) {
    if let Some(timeout) = source.timeout {
        reporter.above_zero(&at.key("timeout").0, timeout);
    }
    if source.interval.is_some_and(|interval| interval.0 < Duration::from_millis(100)) {
        reporter.report(&at.key("interval").0, "must be at least `100ms`".into());
    }
    if source.max_size.is_some_and(|size| !(1 << 10..=64 << 20).contains(&size.0)) {
        reporter.report(&at.key("maxSize").0, "must be from `1KiB` to `64MiB`".into());
    }
}

fn repeated(at: &At<'_>, service: &Service, reporter: &mut Reporter<'_>) {
    let endpoints = &service.endpoints;
    let dns = endpoints.dns.iter().flat_map(Several::as_slice);
    twice(&at.key("dns"), dns.map(DnsSource::model), reporter);
    let http = endpoints.http.iter().flat_map(Several::as_slice);
    twice(&at.key("http"), http.map(HttpSource::model), reporter);
    let kubernetes = endpoints.kubernetes.iter().flat_map(Several::as_slice);
    twice(&at.key("kubernetes"), kubernetes.map(KubernetesSource::model), reporter);
}

fn twice<S: PartialEq>(
    at: &At<'_>,
    sources: impl Iterator<Item = Option<S>>,
    reporter: &mut Reporter<'_>,
) {
    let sources: Vec<_> = sources.collect();
    for (index, source) in sources.iter().enumerate() {
        if source.is_some() && sources[..index].contains(source) {
            reporter.report(&at.key(index).0, "stands here twice; remove one".into());
        }
    }
}
