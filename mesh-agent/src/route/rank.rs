//! Which of several matches counts: Gateway API's order.

use crate::model::{PathMatch, RouteMatch};

/// Of a host: an exact one before a wildcard, a longer before a shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRank {
    exact: bool,
    length: usize,
}

impl HostRank {
    /// Of a route that asks for no host.
    pub const ANY: Self = Self { exact: false, length: 0 };

    pub fn exact(host: &str) -> Self {
        Self { exact: true, length: host.len() }
    }

    pub fn wildcard(suffix: &str) -> Self {
        Self { exact: false, length: suffix.len() }
    }

    /// Nothing can fit better.
    pub fn is_exact(self) -> bool {
        self.exact
    }
}

/// Of the other conditions. Regular expressions have no place in Gateway API's
/// order; here, as in Envoy Gateway, they come before prefixes: after them, a
/// route without a path, which is the prefix `/`, would hide them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    path: (Kind, usize),
    method: bool,
    headers: usize,
    query: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Prefix,
    Regex,
    Exact,
}

impl Rank {
    pub fn of(one: &RouteMatch) -> Self {
        let path = match &one.path {
            None => (Kind::Prefix, 0),
            Some(PathMatch::Prefix(prefix)) => (Kind::Prefix, prefix.trim_end_matches('/').len()),
            Some(PathMatch::Regex(_)) => (Kind::Regex, 0),
            // A call's service counts before its method: less than any, more than none.
            Some(PathMatch::Call(_)) => (Kind::Prefix, 1),
            Some(PathMatch::Exact(path)) => (Kind::Exact, path.len()),
        };
        Self {
            path,
            method: one.method.is_some(),
            headers: one.headers.len(),
            query: one.query.len(),
        }
    }
}
