//! Checks of what routes and their backends change.

use std::collections::HashSet;

use super::{Reporter, policy::At};
use crate::config::raw::{Filters, Mirror, Route, RouteMatch};

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

/// All filters of a route, and of its backends.
pub fn check(at: &At<'_>, route: &Route, reporter: &mut Reporter<'_>) {
    one(&at.key("filters"), &route.filters, &route.matches, reporter);
    for (index, backend) in route.backends.iter().enumerate() {
        let at = at.key("backends").key(index).key("filters");
        one(&at, &backend.filters, &route.matches, reporter);
        if backend.filters.rewrite.is_some() && route.filters.rewrite.is_some() {
            let message = "follows a rewrite of the whole route: keep one of the two";
            reporter.report(&at.key("rewrite").0, message.into());
        }
    }
}

fn one(at: &At<'_>, filters: &Filters, matches: &[RouteMatch], reporter: &mut Reporter<'_>) {
    header_changes(at, filters, reporter);
    redirect(at, filters, reporter);
    prefixes(at, filters, matches, reporter);
    rewrite(at, filters, reporter);
    mirrors(at, filters, reporter);
}

fn header_changes(at: &At<'_>, filters: &Filters, reporter: &mut Reporter<'_>) {
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
}

fn redirect(at: &At<'_>, filters: &Filters, reporter: &mut Reporter<'_>) {
    let Some(redirect) = &filters.redirect else { return };
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
        let message =
            "leads back to where it came from: add `scheme`, `host`, `port`, `path` or `prefix`";
        reporter.missing(&at.0, message.into());
    }
}

/// A prefix replaces the one that was asked for, so that there must be one.
fn prefixes(at: &At<'_>, filters: &Filters, matches: &[RouteMatch], reporter: &mut Reporter<'_>) {
    let Filters { redirect, rewrite, .. } = filters;
    let redirect = redirect.as_ref().map(|it| (it.path.is_some(), it.prefix.is_some()));
    let rewritten = rewrite.as_ref().map(|it| (it.path.is_some(), it.prefix.is_some()));
    let asked = match matches {
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
}

fn rewrite(at: &At<'_>, filters: &Filters, reporter: &mut Reporter<'_>) {
    let Some(rewrite) = &filters.rewrite else { return };
    let at = at.key("rewrite");
    if filters.redirect.is_some() {
        let message = "is of no use: the route redirects; remove one of the two";
        reporter.report(&at.0, message.into());
    }
    if rewrite.host.as_ref().is_some_and(|host| host.0.starts_with('*')) {
        reporter.report(&at.key("host").0, "must be one host, without `*`".into());
    }
    if rewrite.host.is_none() && rewrite.path.is_none() && rewrite.prefix.is_none() {
        reporter.missing(&at.0, "changes nothing: add `host`, `path` or `prefix`".into());
    }
}

fn mirrors(at: &At<'_>, filters: &Filters, reporter: &mut Reporter<'_>) {
    for (index, mirror) in filters.mirror.iter().flatten().enumerate() {
        let at = at.key("mirror").key(index);
        if filters.redirect.is_some() {
            let message = "never gets a request: it is redirected; remove one of the two";
            reporter.report(&at.0, message.into());
        }
        share(&at, mirror, reporter);
    }
}

fn share(at: &At<'_>, mirror: &Mirror, reporter: &mut Reporter<'_>) {
    let Some(fraction) = &mirror.fraction else { return };
    let at = at.key("fraction");
    if mirror.percent.is_some() {
        reporter.report(&at.0, "says what `percent` says: remove one of the two".into());
    }
    if fraction.numerator > Some(fraction.denominator()) {
        let message = format!("must be at most the denominator, {}", fraction.denominator());
        reporter.report(&at.key("numerator").0, message);
    }
}
