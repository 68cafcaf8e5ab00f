//! Checks of where instances come from.

use std::time::Duration;

use super::{Reporter, Step, policy::At};
use crate::config::raw::{DnsSource, HttpSource, Service};

pub fn check(here: &[Step<'_>], service: &Service, reporter: &mut Reporter<'_>) {
    let at = At(here.to_vec()).key("endpoints");
    let dns = service.endpoints.dns.iter().flat_map(crate::config::raw::Several::as_slice);
    for (index, source) in dns.enumerate() {
        self::dns(&at.key("dns").key(index), source, reporter);
    }
    let http = service.endpoints.http.iter().flat_map(crate::config::raw::Several::as_slice);
    for (index, source) in http.enumerate() {
        self::http(&at.key("http").key(index), source, reporter);
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
    let dns: Vec<_> = service
        .endpoints
        .dns
        .iter()
        .flat_map(crate::config::raw::Several::as_slice)
        .map(DnsSource::model)
        .collect();
    let http: Vec<_> = (service.endpoints.http.iter())
        .flat_map(crate::config::raw::Several::as_slice)
        .map(HttpSource::model)
        .collect();
    for (index, source) in dns.iter().enumerate() {
        if source.is_some() && dns[..index].contains(source) {
            reporter.report(&at.key("dns").key(index).0, "stands here twice; remove one".into());
        }
    }
    for (index, source) in http.iter().enumerate() {
        if source.is_some() && http[..index].contains(source) {
            reporter.report(&at.key("http").key(index).0, "stands here twice; remove one".into());
        }
    }
}
