//! Where a client is sent instead.

use http::{StatusCode, request};

use super::{condition, rewrite::NewPath};
use crate::model;

#[derive(Clone, Debug)]
pub struct Redirect {
    to: model::Redirect,
    path: Option<NewPath>,
    pub status: StatusCode,
}

impl Redirect {
    /// `matches` are its route's.
    pub fn new(to: &model::Redirect, matches: &[model::RouteMatch]) -> Self {
        let status = StatusCode::from_u16(to.status).expect("validated by `config`");
        let path = to.path.as_ref().map(|path| NewPath::new(path, matches));
        Self { to: to.clone(), path, status }
    }

    /// The new place of a request (Gateway API, `HTTPRequestRedirectFilter`);
    /// `None` where neither says which host.
    pub fn location(&self, head: &request::Parts) -> Option<String> {
        let asked = authority(head);
        let host = self.to.host.as_deref().or(asked.map(|(host, _)| host))?;
        let scheme = self.to.scheme.as_deref().unwrap_or("http");
        let port = match (self.to.port, &self.to.scheme) {
            (Some(port), _) => Some(port),
            // A scheme that is named brings its own port.
            (None, Some(_)) => None,
            (None, None) => asked.and_then(|(_, port)| port),
        };
        let own = if scheme == "https" { 443 } else { 80 };
        let port = port.filter(|&port| port != own).map(|port| format!(":{port}"));
        let asked = match head.uri.path() {
            "" => "/",
            path => path,
        };
        let path = self.path.as_ref().map_or_else(|| asked.to_owned(), |path| path.of(asked));
        let query = head.uri.query().map(|query| format!("?{query}"));
        Some(
            [scheme, "://", host, &port.unwrap_or_default(), &path, &query.unwrap_or_default()]
                .concat(),
        )
    }
}

/// Host and port that the client names.
pub fn authority(head: &request::Parts) -> Option<(&str, Option<u16>)> {
    let named = condition::named(head)?;
    let named = named.rsplit_once('@').map_or(named, |(_, host)| host);
    // An IPv6 address stands in brackets, and has colons in it.
    let end = named.rfind(']').map_or(0, |end| end + 1);
    match named[end..].split_once(':') {
        Some((rest, port)) => Some((&named[..end + rest.len()], port.parse().ok())),
        None => Some((named, None)),
    }
}
