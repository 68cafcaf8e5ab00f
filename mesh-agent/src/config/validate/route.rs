//! Checks of a service's routes.

use std::collections::HashSet;

use super::{
    Reporter, Step,
    policy::{self, At},
};
use crate::{
    config::raw::{
        File, Filters, HeaderMatch, Over, Policy, QueryMatch, Route, RouteBackend, Service,
    },
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
    filters(&at.key("filters"), &route.filters, reporter);
    prefixes(&at.key("filters"), route, reporter);
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

/// Headers that frame a message or belong to one connection: changing them
/// would break the message, or let one request be read as two.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-mesh-error",
];

fn filters(at: &At<'_>, filters: &Filters, reporter: &mut Reporter<'_>) {
    let both = [
        ("requestHeaders", &filters.request_headers),
        ("responseHeaders", &filters.response_headers),
    ];
    for (key, changes) in both {
        let Some(changes) = changes else { continue };
        let at = at.key(key);
        let mut seen = HashSet::new();
        for (kind, name) in changes.names() {
            if FRAMING.contains(&name.0.as_str()) {
                let message = format!("`{}` can't be changed: it is the connection's", name.0);
                reporter.report(&at.key(kind).0, message);
            } else if !seen.insert(&name.0) {
                let message = format!("`{}` is changed twice: keep one", name.0);
                reporter.report(&at.key(kind).0, message);
            } else if name.0 == "host" && kind != "set" {
                let message = "`host` can be set only: a request has exactly one".into();
                reporter.report(&at.key(kind).0, message);
            }
        }
        if changes.names().next().is_none() {
            reporter.missing(&at.0, "changes nothing: add `set`, `add` or `remove`".into());
        }
    }
    if let Some(redirect) = &filters.redirect {
        let at = at.key("redirect");
        if let Some(status) = redirect.status
            && ![301, 302, 303, 307, 308].contains(&status)
        {
            let message = format!("`{status}` doesn't redirect: use 301, 302, 303, 307 or 308");
            reporter.report(&at.key("status").0, message);
        }
        if redirect.host.as_ref().is_some_and(|host| host.0.starts_with('*')) {
            reporter.report(&at.key("host").0, "must be one host, without `*`".into());
        }
        let elsewhere = redirect.scheme.is_some()
            || redirect.host.is_some()
            || redirect.port.is_some()
            || redirect.path.is_some()
            || redirect.prefix.is_some();
        if !elsewhere {
            let message = "leads back to where it came from: add `scheme`, `host`, `port`, `path` or `prefix`";
            reporter.missing(&at.0, message.into());
        }
    }
}

/// A prefix replaces the one that was asked for, so that there must be one.
fn prefixes(at: &At<'_>, route: &Route, reporter: &mut Reporter<'_>) {
    let Filters { redirect, rewrite, .. } = &route.filters;
    let redirect = redirect.as_ref().map(|it| (it.path.is_some(), it.prefix.is_some()));
    let rewritten = rewrite.as_ref().map(|it| (it.path.is_some(), it.prefix.is_some()));
    let asked = match route.matches.as_slice() {
        [] => true,
        [one] => one.path.as_ref().is_none_or(|path| path.prefix.is_some()),
        _ => false,
    };
    for (key, written) in [("redirect", redirect), ("rewrite", rewritten)] {
        let message = match written {
            Some((true, true)) => "replaces a part of what `path` replaces: remove one of the two",
            Some((false, true)) if !asked => {
                "replaces the prefix of the route's only match: write one match, with \
                 `path.prefix`"
            }
            _ => continue,
        };
        reporter.report(&at.key(key).key("prefix").0, message.into());
    }
    let Some(rewrite) = rewrite else { return };
    let at = at.key("rewrite");
    if redirect.is_some() {
        let message = "is of no use: the route redirects; remove one of the two";
        reporter.report(&at.0, message.into());
    }
    if rewrite.host.as_ref().is_some_and(|host| host.0.starts_with('*')) {
        reporter.report(&at.key("host").0, "must be one host, without `*`".into());
    }
    if rewrite.host.is_none() && rewritten == Some((false, false)) {
        reporter.missing(&at.0, "changes nothing: add `host`, `path` or `prefix`".into());
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
        self::backend(&at.key("backends").key(index), backend, service, file, reporter);
    }
}

fn backend(
    at: &At<'_>,
    backend: &RouteBackend,
    service: &Service,
    file: &File,
    reporter: &mut Reporter<'_>,
) {
    let target = match &backend.service {
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
    if let Some(port) = backend.port {
        if !has(port) {
            let name = target.name.as_ref().map_or("", |name| &name.0);
            let message = format!("service `{name}` has no port {port} that speaks HTTP");
            reporter.report(&at.key("port").0, message);
        }
        return;
    }
    if backend.service.is_none() {
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
