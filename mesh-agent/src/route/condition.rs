//! Whether a request fits.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Method, header, request};
use regex::Regex;

use super::rank::{HostRank, Rank};
use crate::model::{self, PathMatch, RouteMatch, ValueMatch};

/// One match of a route, ready to be asked.
#[derive(Debug)]
pub struct Rule {
    pub rank: Rank,
    /// Index of its route.
    pub route: usize,
    path: Option<Path>,
    method: Option<Method>,
    headers: Vec<(HeaderName, Value)>,
    query: Vec<(String, Text)>,
}

#[derive(Debug)]
enum Path {
    Exact(String),
    /// Without a slash at its end: empty is every path.
    Prefix(String),
    Regex(Regex),
    /// Of `/SERVICE/METHOD`, the last.
    Call(String),
}

#[derive(Debug)]
enum Value {
    Exact(HeaderValue),
    Regex(Regex),
    Present,
}

/// Of a query's parameter, decoded.
#[derive(Debug)]
enum Text {
    Exact(String),
    Regex(Regex),
    Present,
}

/// A host of a route. Lower case.
#[derive(Debug)]
pub enum Host {
    Exact(String),
    /// With the dot at its start.
    Below(String),
}

const VALIDATED: &str = "validated by `config`";

impl Rule {
    pub fn new(route: usize, one: &RouteMatch) -> Self {
        let path = one.path.as_ref().map(|path| match path {
            PathMatch::Exact(path) => Path::Exact(path.clone()),
            PathMatch::Prefix(prefix) => Path::Prefix(prefix.trim_end_matches('/').to_owned()),
            PathMatch::Regex(pattern) => Path::Regex(model::whole(pattern).expect(VALIDATED)),
            PathMatch::Call(method) => Path::Call(method.clone()),
        });
        let headers = one.headers.iter().map(|header| {
            let name = HeaderName::try_from(&header.name).expect(VALIDATED);
            let value = match &header.value {
                ValueMatch::Exact(value) => {
                    Value::Exact(HeaderValue::from_bytes(value.as_bytes()).expect(VALIDATED))
                }
                ValueMatch::Regex(pattern) => Value::Regex(model::whole(pattern).expect(VALIDATED)),
                ValueMatch::Present => Value::Present,
            };
            (name, value)
        });
        Self {
            rank: Rank::of(one),
            route,
            path,
            method: one.method.as_ref().map(|m| Method::try_from(m.as_str()).expect(VALIDATED)),
            headers: headers.collect(),
            query: one.query.iter().map(|one| (one.name.clone(), Text::new(&one.value))).collect(),
        }
    }

    /// All but the host.
    pub fn matches(&self, head: &request::Parts) -> bool {
        self.method.as_ref().is_none_or(|method| *method == head.method)
            && self.path.as_ref().is_none_or(|path| path.matches(head.uri.path()))
            && self.headers.iter().all(|(name, value)| {
                head.headers.get_all(name).iter().any(|header| value.matches(header))
            })
            && (self.query.is_empty() || self.asks(head.uri.query().unwrap_or_default()))
    }

    /// Whether the query has all its parameters.
    fn asks(&self, query: &str) -> bool {
        self.query.iter().all(|(name, text)| {
            let mut given = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            let first = given.find(|(given, _)| decoded(given).as_ref() == Some(name));
            first.and_then(|(_, value)| decoded(value)).is_some_and(|value| text.matches(&value))
        })
    }
}

/// As forms write it; `None` where that isn't UTF-8.
fn decoded(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let bytes = percent_encoding::percent_decode_str(&spaced);
    bytes.decode_utf8().ok().map(Cow::into_owned)
}

impl Text {
    fn new(value: &ValueMatch) -> Self {
        match value {
            ValueMatch::Exact(text) => Self::Exact(text.clone()),
            ValueMatch::Regex(pattern) => Self::Regex(model::whole(pattern).expect(VALIDATED)),
            ValueMatch::Present => Self::Present,
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Regex(regex) => regex.is_match(text),
            Self::Present => true,
        }
    }
}

impl Path {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path),
            Self::Call(method) => {
                let call = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                call.is_some_and(|(service, called)| !service.is_empty() && called == method)
            }
        }
    }
}

impl Value {
    fn matches(&self, value: &HeaderValue) -> bool {
        match self {
            Self::Exact(exact) => value == exact,
            Self::Regex(regex) => {
                std::str::from_utf8(value.as_bytes()).is_ok_and(|value| regex.is_match(value))
            }
            Self::Present => true,
        }
    }
}

impl Host {
    pub fn new(pattern: &str) -> Self {
        match pattern.strip_prefix('*') {
            Some(suffix) => Self::Below(suffix.to_owned()),
            None => Self::Exact(pattern.to_owned()),
        }
    }

    /// How well it fits; `None` where it doesn't.
    pub fn rank(&self, host: &str) -> Option<HostRank> {
        match self {
            Self::Exact(exact) => (exact == host).then(|| HostRank::exact(exact)),
            Self::Below(suffix) => {
                let labels = host.strip_suffix(suffix.as_str())?;
                (!labels.is_empty()).then(|| HostRank::wildcard(suffix))
            }
        }
    }
}

/// What the client calls the server: lower case, without port and final dot.
pub fn host(head: &request::Parts) -> Option<Cow<'_, str>> {
    let (host, _) = super::redirect::authority(head)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    })
}

/// The text that names the server, of the target or of the Host field.
pub fn named(head: &request::Parts) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST)?.to_str().ok(),
    }
}
