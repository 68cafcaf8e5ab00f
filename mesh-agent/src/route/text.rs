//! Routes in words, for commands.

use crate::model::{
    Filter, Fraction, HeaderChanges, Mirror, PathMatch, PathRewrite, Route, RouteMatch, ValueMatch,
};

/// Which requests take it, one line for each match.
pub fn conditions(route: &Route) -> Vec<String> {
    let hosts = match route.hosts.as_slice() {
        [] => String::new(),
        hosts => format!("host {}, ", hosts.join(" or ")),
    };
    let every = [RouteMatch::default()];
    let matches = if route.matches.is_empty() { &every } else { &route.matches[..] };
    matches
        .iter()
        .map(|one| {
            let text = format!("{hosts}{}", condition(one));
            if text.is_empty() {
                "every request".to_owned()
            } else {
                text.trim_end_matches(", ").to_owned()
            }
        })
        .collect()
}

fn condition(one: &RouteMatch) -> String {
    let mut parts = Vec::new();
    match &one.path {
        None => {}
        Some(PathMatch::Exact(path)) => parts.push(format!("path {path}")),
        Some(PathMatch::Prefix(prefix)) => parts.push(format!("path below {prefix}")),
        Some(PathMatch::Regex(regex)) => parts.push(format!("path like {regex}")),
        Some(PathMatch::Call(method)) => parts.push(format!("call of {method}")),
    }
    if let Some(method) = &one.method {
        parts.push(format!("method {method}"));
    }
    for header in &one.headers {
        parts.push(match &header.value {
            ValueMatch::Exact(value) => format!("{}: {value}", header.name),
            ValueMatch::Regex(regex) => format!("{} like {regex}", header.name),
            ValueMatch::Present => format!("with {}", header.name),
        });
    }
    for parameter in &one.query {
        parts.push(match &parameter.value {
            ValueMatch::Exact(value) => format!("?{}={value}", parameter.name),
            ValueMatch::Regex(regex) => format!("?{} like {regex}", parameter.name),
            ValueMatch::Present => format!("with ?{}", parameter.name),
        });
    }
    parts.join(", ")
}

/// What is done to its requests, wherever they go.
pub fn actions(route: &Route) -> Vec<String> {
    let mut actions = filters(&route.filters);
    if let Some(timeout) = route.timeout {
        actions.push(match timeout.is_zero() {
            true => "no timeout".to_owned(),
            false => format!("timeout {timeout:?}"),
        });
    }
    if route.retry.is_some() {
        actions.push("retries of its own".to_owned());
    }
    actions
}

/// What these do, in their order.
pub fn filters(all: &[Filter]) -> Vec<String> {
    let mut actions = Vec::new();
    for filter in all {
        match filter {
            Filter::RequestHeaders(changes) => actions.extend(changed("request", changes)),
            Filter::ResponseHeaders(changes) => actions.extend(changed("response", changes)),
            Filter::Redirect(to) => {
                let scheme = to.scheme.as_deref().unwrap_or("*");
                let host = to.host.as_deref().unwrap_or("*");
                let port = to.port.map(|port| format!(":{port}")).unwrap_or_default();
                let path = path(to.path.as_ref());
                actions
                    .push(format!("redirected ({}) to {scheme}://{host}{port}{path}", to.status));
            }
            Filter::Rewrite(to) => {
                let host = to.host.as_deref().unwrap_or("*");
                actions.push(format!("asks for {host}{}", path(to.path.as_ref())));
            }
            Filter::Mirror(to) => actions.push(mirror(to)),
            Filter::NotFound => actions.push("answered with 404: no route".to_owned()),
        }
    }
    actions
}

fn mirror(to: &Mirror) -> String {
    let service = to.service.as_ref().map_or("this service", |service| service.as_str());
    let port = to.port.map(|port| format!(":{port}")).unwrap_or_default();
    let labels = to.subset.iter().map(|(name, value)| format!(" {name}={value}"));
    let labels: String = labels.collect();
    let with = if labels.is_empty() { "" } else { " with" };
    let share = match to.share {
        Fraction::ALL => String::new(),
        Fraction { numerator, denominator: 100 } => format!(", {numerator} % of the requests"),
        Fraction { numerator, denominator } => {
            format!(", {numerator} of {denominator} requests")
        }
    };
    format!("mirrored to {service}{port}{with}{labels}{share}")
}

fn path(to: Option<&PathRewrite>) -> String {
    match to {
        None => "/*".to_owned(),
        Some(PathRewrite::Full(path)) => path.clone(),
        Some(PathRewrite::Prefix(prefix)) => format!("{}/*", prefix.trim_end_matches('/')),
    }
}

fn changed<'a>(of: &'a str, changes: &'a HeaderChanges) -> impl Iterator<Item = String> + 'a {
    let set =
        changes.set.iter().map(move |(name, value)| format!("{of} header {name}: {value} set"));
    let add =
        changes.add.iter().map(move |(name, value)| format!("{of} header {name}: {value} added"));
    set.chain(add)
        .chain(changes.remove.iter().map(move |name| format!("{of} header {name} removed")))
}
