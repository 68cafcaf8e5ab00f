//! HTTP routes of a service: the model of Gateway API's `HTTPRoute`.

use std::{num::NonZeroU16, time::Duration};

use super::{Labels, Retry, ServiceName};

/// The first rule with a match wins, matches compared as Gateway API orders
/// them: exact path, regex, longest prefix, method, most headers, first written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub name: String,
    /// Those of the service's ports that it holds for; all where empty.
    pub ports: Vec<NonZeroU16>,
    /// Lower case; `*.example.org` matches any one or more labels. All where empty.
    pub hosts: Vec<String>,
    /// Any of them; all requests where empty.
    pub matches: Vec<RouteMatch>,
    pub filters: Vec<Filter>,
    /// By weight; the service's own instances where empty.
    pub backends: Vec<RouteBackend>,
    pub timeout: Option<Duration>,
    pub retry: Option<Retry>,
}

impl Route {
    /// The services, and the labels of their instances, that requests or copies
    /// of them are sent to; `None` is the route's own service.
    pub fn targets(&self) -> impl Iterator<Item = (Option<&ServiceName>, &Labels)> {
        let filters = self.backends.iter().flat_map(|backend| &backend.filters);
        let mirrors = self.filters.iter().chain(filters).filter_map(|filter| match filter {
            Filter::Mirror(to) => Some((to.service.as_ref(), &to.subset)),
            _ => None,
        });
        self.backends.iter().map(|to| (to.service.as_ref(), &to.subset)).chain(mirrors)
    }
}

/// All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    pub path: Option<PathMatch>,
    /// Upper case.
    pub method: Option<String>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Exact(String),
    /// Of whole path segments.
    Prefix(String),
    /// Of the whole path; validated.
    Regex(String),
    /// A call of gRPC of this method, whatever its service.
    Call(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    pub value: ValueMatch,
}

/// Of the query's parameters with this name, the first counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Decoded; its case counts.
    pub name: String,
    pub value: ValueMatch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    Exact(String),
    Regex(String),
    Present,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    RequestHeaders(HeaderChanges),
    ResponseHeaders(HeaderChanges),
    Redirect(Redirect),
    Rewrite(Rewrite),
    /// Several are several mirrors.
    Mirror(Mirror),
    /// Answers that there is no route: what other routes leave over isn't the
    /// service's own any more.
    NotFound,
}

/// Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// What isn't set stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
    pub status: u16,
}

/// What an instance is asked for in place of what the client asked for. What
/// isn't set stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub host: Option<String>,
    pub path: Option<PathRewrite>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    Full(String),
    /// Of the prefix that the route's only match asks for.
    Prefix(String),
}

/// Where a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBackend {
    /// Another service; this one where `None`.
    pub service: Option<ServiceName>,
    /// Of that service; the port that was connected to where `None`.
    pub port: Option<NonZeroU16>,
    /// Instances with all of these labels; all where empty.
    pub subset: Labels,
    pub weight: u32,
    /// What is done to the requests that it gets, after the route's own.
    pub filters: Vec<Filter>,
    /// Refers to what isn't there, or isn't allowed: its share of the requests
    /// is answered by an error, as Gateway API demands.
    pub unresolved: bool,
}

/// Where a copy of a request goes; what becomes of it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Another service; this one where `None`.
    pub service: Option<ServiceName>,
    /// Of that service; the port that was connected to where `None`.
    pub port: Option<NonZeroU16>,
    /// Instances with all of these labels; all where empty.
    pub subset: Labels,
    /// Of the requests.
    pub share: Fraction,
}

/// So many of so many; the denominator isn't 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    pub numerator: u32,
    pub denominator: u32,
}

impl Fraction {
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };
    /// As in Gateway API.
    pub const DENOMINATOR: u32 = 100;
}

impl Redirect {
    /// As in Gateway API.
    pub const STATUS: u16 = 302;
}

impl RouteBackend {
    /// As in Gateway API.
    pub const WEIGHT: u32 = 1;
}

/// The expression as routes use it: of the whole value, and bounded in what it
/// costs to keep.
pub fn whole(pattern: &str) -> Result<regex::Regex, regex::Error> {
    const LARGEST: usize = 1 << 20;
    let build = |pattern: &str| regex::RegexBuilder::new(pattern).size_limit(LARGEST).build();
    // By itself first: `a)|(b` would make sense in the group only.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}
