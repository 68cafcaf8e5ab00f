//! Checks of a service's routes.

use std::{collections::HashSet, num::NonZeroU16};

use super::{
    Reporter, Step, filter,
    policy::{self, At},
};
use crate::{
    config::raw::{File, Filters, HeaderMatch, Over, Policy, QueryMatch, Route, Service},
    config::text::Name,
    model::Protocol,
};

pub fn check(here: &[Step<'_>], service: &Service, file: &File, reporter: &mut Reporter<'_>) {
    let at = At(here.to_vec()).key("routes");
    if service.routes.is_empty() {
        return;
    }
    if let Some(why) = policy::no_requests(service) {
        reporter.report(&at.0, format!("can't work: {why}"));
    }
    let policy = service.policy.over(&file.defaults.policy);
    let mut names = HashSet::new();
    for (index, route) in service.routes.iter().enumerate() {
        let at = at.key(index);
        if let Some(name) = &route.name
            && !names.insert(&name.0)
        {
            let message = format!("`{}` is the name of another route of the service", name.0);
            reporter.report(&at.key("name").0, message);
        }
        check_one(&at, route, reporter);
        backends(&at, route, service, file, reporter);
        attempts(&at, route, &policy, reporter);
    }
}

/// What can be said without its service.
pub fn check_one(at: &At<'_>, route: &Route, reporter: &mut Reporter<'_>) {
    matches(at, route, reporter);
    filter::check(at, route, reporter);
}

fn matches(at: &At<'_>, route: &Route, reporter: &mut Reporter<'_>) {
    for (index, one) in route.matches.iter().enumerate() {
        let at = at.key("matches").key(index);
        if let Some(path) = &one.path
            && path.kinds() != 1
        {
            let message = "must have one of `exact`, `prefix` and `regex`".into();
            reporter.missing(&at.key("path").0, message);
        }
        parameters(&at.key("query"), &one.query, reporter);
        for (index, header) in one.headers.iter().enumerate() {
            self::header(&at.key("headers").key(index), header, reporter);
            let before = &one.headers[..index];
            if header.name.is_some() && before.iter().any(|other| other.name == header.name) {
                let message = "is asked for twice: write one condition";
                reporter.report(&at.key("headers").key(index).key("name").0, message.into());
            }
        }
    }
}

fn header(at: &At<'_>, header: &HeaderMatch, reporter: &mut Reporter<'_>) {
    if header.kinds() != 1 {
        reporter.missing(&at.0, "must have one of `exact`, `regex` and `present`".into());
    } else if header.present == Some(false) {
        let message = "can only be `true`: absence can't be asked for";
        reporter.report(&at.key("present").0, message.into());
    }
}

fn parameters(at: &At<'_>, query: &[QueryMatch], reporter: &mut Reporter<'_>) {
    for (index, one) in query.iter().enumerate() {
        let at = at.key(index);
        if one.kinds() != 1 {
            reporter.missing(&at.0, "must have one of `exact`, `regex` and `present`".into());
        } else if one.present == Some(false) {
            let message = "can only be `true`: absence can't be asked for";
            reporter.report(&at.key("present").0, message.into());
        }
        let before = &query[..index];
        if one.name.is_some() && before.iter().any(|other| other.name == one.name) {
            let message = "is asked for twice: write one condition";
            reporter.report(&at.key("name").0, message.into());
        }
    }
}

fn backends(
    at: &At<'_>,
    route: &Route,
    service: &Service,
    file: &File,
    reporter: &mut Reporter<'_>,
) {
    if route.filters.redirect.is_some() && !route.backends.is_empty() {
        let message = "never get a request: the route redirects; remove one of the two";
        reporter.report(&at.key("backends").0, message.into());
    }
    let none = route.backends.iter().all(|backend| backend.weight == Some(0));
    if none && !route.backends.is_empty() {
        let message = "all have weight 0: nothing would answer; give one a weight";
        reporter.report(&at.key("backends").0, message.into());
    }
    for (index, backend) in route.backends.iter().enumerate() {
        let at = at.key("backends").key(index);
        target(&at, (backend.service.as_ref(), backend.port), service, file, reporter);
        mirrors(&at.key("filters"), &backend.filters, service, file, reporter);
    }
    mirrors(&at.key("filters"), &route.filters, service, file, reporter);
}

fn mirrors(
    at: &At<'_>,
    filters: &Filters,
    service: &Service,
    file: &File,
    reporter: &mut Reporter<'_>,
) {
    for (index, mirror) in filters.mirror.iter().flatten().enumerate() {
        let at = at.key("mirror").key(index);
        target(&at, (mirror.service.as_ref(), mirror.port), service, file, reporter);
    }
}

/// A service and port that requests of `service` are sent to.
fn target(
    at: &At<'_>,
    (other, port): (Option<&Name>, Option<NonZeroU16>),
    service: &Service,
    file: &File,
    reporter: &mut Reporter<'_>,
) {
    let target = match other {
        None => service,
        Some(name) => {
            let mut all = file.services.iter();
            let Some(found) = all.find(|other| other.name.as_ref() == Some(name)) else {
                let known: Vec<&str> = file
                    .services
                    .iter()
                    .filter_map(|s| Some(s.name.as_ref()?.0.as_str()))
                    .collect();
                let meant = crate::config::suggest::closest(&name.0, &known);
                let meant = meant.map(|m| format!("; did you mean `{m}`?")).unwrap_or_default();
                let message = format!("there is no service `{}` in this file{meant}", name.0);
                reporter.report(&at.key("service").0, message);
                return;
            };
            found
        }
    };
    let Some(ports) = &target.ports else { return };
    let speaks = |protocol: Protocol| protocol.is_http() || protocol == Protocol::Auto;
    let has =
        |number| ports.iter().any(|port| port.port == Some(number) && speaks(port.protocol.into()));
    if let Some(port) = port {
        if !has(port) {
            let name = target.name.as_ref().map_or("", |name| &name.0);
            let message = format!("service `{name}` has no port {port} that speaks HTTP");
            reporter.report(&at.key("port").0, message);
        }
        return;
    }
    if other.is_none() {
        return;
    }
    let own = service.ports.iter().flatten().filter(|port| speaks(port.protocol.into()));
    for port in own.filter_map(|port| port.port) {
        if !has(port) {
            let name = target.name.as_ref().map_or("", |name| &name.0);
            let message =
                format!("service `{name}` has no port {port} that speaks HTTP: add `port`");
            reporter.report(&at.0, message);
            return;
        }
    }
}

fn attempts(at: &At<'_>, route: &Route, policy: &Policy, reporter: &mut Reporter<'_>) {
    let Some(retry) = &route.retry else { return };
    if let Some(each) = retry.per_try_timeout {
        reporter.above_zero(&at.key("retry").key("perTryTimeout").0, each);
    }
    // The route's own timeout takes the place of the policy's.
    let mut policy = policy.clone();
    if let Some(timeout) = route.timeout {
        policy.timeout.get_or_insert_default().request = Some(timeout);
    }
    policy::retry(&at.key("retry"), retry, &policy, reporter);
}
