//! `routes` of a service: Gateway API's `HTTPRoute`, in the file's words.

use std::{num::NonZeroU16, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    filter::Filters,
    policy::Retry,
    section::{Over, section, values},
};
use crate::{
    config::text::{
        Duration, HeaderName, HeaderValue, HostPattern, Labels, Method, Name, Parameter, Pattern,
        RequestPath,
    },
    model::{self, RouteMatch as Match, ValueMatch},
};

/// Which requests, and where they go.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Route {
    /// Shown by commands; `route-0` for the first, and so on, unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Hosts that are asked for, without port; `*.example.org` is any host below. All where there are none.
    #[schemars(length(max = 64))]
    pub hosts: Vec<HostPattern>,
    /// Any of them; all requests where there are none.
    #[schemars(length(max = 64))]
    pub matches: Vec<RouteMatch>,
    /// What is changed on the way.
    pub filters: Filters,
    /// By weight; the service's own instances where there are none.
    #[schemars(length(max = 64))]
    pub backends: Vec<RouteBackend>,
    /// From the whole head of a request to the whole response; the policy's `timeout.request` unless set, `0s` is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Merged over the policy's `retry`, key by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A request for which all of this is true.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouteMatch {
    /// Its path, without the query; one of `exact`, `prefix` and `regex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Its method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// All of these headers.
    #[schemars(length(max = 64))]
    pub headers: Vec<HeaderMatch>,
    /// All of these parameters of the query.
    #[schemars(length(max = 64))]
    pub query: Vec<QueryMatch>,
}

section! {
    /// The path of a request, without the query; one of the three.
    pub struct PathMatch {
        /// The whole path.
        exact: RequestPath,
        /// Of whole segments: `/api` is `/api` and `/api/v1`, not `/apiary`.
        prefix: RequestPath,
        /// Of the whole path.
        regex: Pattern,
    }

    /// A header of a request; one of `exact`, `regex` and `present`.
    #[schemars(extend("required" = ["name"]))]
    pub struct HeaderMatch {
        /// Of the header.
        name: HeaderName,
        /// The whole value.
        exact: HeaderValue,
        /// Of the whole value.
        regex: Pattern,
        /// `true`: with any value.
        present: bool,
    }

    /// A parameter of the query, decoded; one of `exact`, `regex` and `present`. Where it is given several times, the first counts.
    #[schemars(extend("required" = ["name"]))]
    pub struct QueryMatch {
        /// Of the parameter; its case counts.
        name: Parameter,
        /// The whole value.
        exact: String,
        /// Of the whole value.
        regex: Pattern,
        /// `true`: with any value.
        present: bool,
    }
}

values! { Pattern }

/// Where requests go.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouteBackend {
    /// Name of another service; this one unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Of that service; the port that was connected to unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Instances with all of these labels; all where there are none.
    pub subset: Labels,
    /// Share of the requests, in proportion to the others'; 0 gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = model::RouteBackend::WEIGHT))]
    pub weight: Option<u32>,
    /// What is changed of its requests, after the route's own filters.
    pub filters: Filters,
}

impl Route {
    /// `retry` is the policy's. `None` where something is missing, which has
    /// been reported.
    pub fn model(&self, index: usize, retry: Option<&Retry>) -> Option<model::Route> {
        let own = self.retry.as_ref();
        let retry = own.map(|own| own.over(retry.unwrap_or(&Retry::default())).model());
        Some(model::Route {
            name: self.name.as_ref().map_or_else(|| format!("route-{index}"), |n| n.0.clone()),
            ports: Vec::new(),
            hosts: self.hosts.iter().map(|host| host.0.clone()).collect(),
            matches: self.matches.iter().map(RouteMatch::model).collect::<Option<_>>()?,
            filters: self.filters.model(),
            backends: self.backends.iter().map(RouteBackend::model).collect(),
            timeout: self.timeout.map(|timeout| timeout.0),
            retry,
        })
    }
}

impl RouteMatch {
    fn model(&self) -> Option<Match> {
        Some(Match {
            path: match &self.path {
                Some(path) => Some(path.model()?),
                None => None,
            },
            method: self.method.as_ref().map(|method| method.0.clone()),
            headers: self.headers.iter().map(HeaderMatch::model).collect::<Option<_>>()?,
            query: self.query.iter().map(QueryMatch::model).collect::<Option<_>>()?,
        })
    }
}

impl PathMatch {
    /// What is written, by its keys.
    pub fn kinds(&self) -> usize {
        [self.exact.is_some(), self.prefix.is_some(), self.regex.is_some()]
            .into_iter()
            .filter(|&is| is)
            .count()
    }

    fn model(&self) -> Option<model::PathMatch> {
        let exact = self.exact.as_ref().map(|path| model::PathMatch::Exact(path.0.clone()));
        let prefix = || self.prefix.as_ref().map(|path| model::PathMatch::Prefix(path.0.clone()));
        let regex = || self.regex.as_ref().map(|path| model::PathMatch::Regex(path.0.clone()));
        exact.or_else(prefix).or_else(regex)
    }
}

impl HeaderMatch {
    /// What is written, by its keys.
    pub fn kinds(&self) -> usize {
        [self.exact.is_some(), self.regex.is_some(), self.present.is_some()]
            .into_iter()
            .filter(|&is| is)
            .count()
    }

    fn model(&self) -> Option<model::HeaderMatch> {
        let exact = self.exact.as_ref().map(|value| ValueMatch::Exact(value.0.clone()));
        let regex = || self.regex.as_ref().map(|value| ValueMatch::Regex(value.0.clone()));
        Some(model::HeaderMatch {
            name: self.name.as_ref()?.0.clone(),
            value: exact.or_else(regex).unwrap_or(ValueMatch::Present),
        })
    }
}

impl QueryMatch {
    /// What is written, by its keys.
    pub fn kinds(&self) -> usize {
        [self.exact.is_some(), self.regex.is_some(), self.present.is_some()]
            .into_iter()
            .filter(|&is| is)
            .count()
    }

    fn model(&self) -> Option<model::QueryMatch> {
        let exact = self.exact.as_ref().map(|value| ValueMatch::Exact(value.clone()));
        let regex = || self.regex.as_ref().map(|value| ValueMatch::Regex(value.0.clone()));
        Some(model::QueryMatch {
            name: self.name.as_ref()?.0.clone(),
            value: exact.or_else(regex).unwrap_or(ValueMatch::Present),
        })
    }
}

impl RouteBackend {
    fn model(&self) -> model::RouteBackend {
        model::RouteBackend {
            service: self.service.as_ref().map(|name| model::ServiceName::new(&name.0)),
            port: self.port,
            subset: Arc::new(self.subset.texts()),
            weight: self.weight.unwrap_or(model::RouteBackend::WEIGHT),
            filters: self.filters.model(),
            unresolved: false,
        }
    }
}
