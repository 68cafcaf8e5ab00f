//! From what the file says to settings that can't hold anything illegal: what
//! a schema can't say is checked here.

mod claims;
mod filter;
mod node;
mod policy;
mod route;
mod service;
mod source;

use std::sync::Arc;

use super::{
    node::{Node, Position, Step},
    problem::Problems,
    raw::{File, Over},
    text::Duration,
};
use crate::model::{self, ServiceName, ServiceSpec, Settings, Source};

/// Reports in words, at the place in the file that the steps lead to.
pub struct Reporter<'a> {
    file: &'a Node,
    problems: &'a mut Problems,
}

impl<'a> Reporter<'a> {
    pub fn new(file: &'a Node, problems: &'a mut Problems) -> Self {
        Self { file, problems }
    }

    fn report(&mut self, steps: &[Step<'_>], message: String) {
        let (path, at) = self.file.find(steps);
        self.problems.push(at, path, message);
    }

    /// Whether nothing below here was found wrong: what was is missing since,
    /// and must not be reported as missing too.
    fn is_spotless(&self, steps: &[Step<'_>]) -> bool {
        let path = self.file.find(steps).0.to_string();
        let below = |other: &str| {
            other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        !self.problems.problems.iter().any(|problem| below(&problem.path))
    }

    /// Reports that something is missing here.
    fn missing(&mut self, steps: &[Step<'_>], message: String) {
        if self.is_spotless(steps) {
            self.report(steps, message);
        }
    }

    fn position(&self, steps: &[Step<'_>]) -> Position {
        self.file.find(steps).1
    }

    fn above_zero(&mut self, steps: &[Step<'_>], duration: Duration) {
        if duration.0.is_zero() {
            self.report(steps, "must be longer than 0".into());
        }
    }
}

/// Reports all that is wrong. What it gives is complete only where `problems`
/// stays empty, here and before.
pub fn validate(raw: File, reporter: &mut Reporter<'_>) -> Settings {
    node::check(&raw, reporter);
    policy::check(&["defaults".into(), "policy".into()], &raw.defaults.policy, None, reporter);
    let defaults = Arc::new(raw.defaults.policy.model());
    for (index, service) in raw.services.iter().enumerate() {
        service::check(index, service, &raw, &defaults, reporter);
    }
    claims::check(&raw, reporter);
    Settings {
        services: (raw.services.iter())
            .filter_map(|service| service_spec(service, &raw, &defaults).map(Arc::new))
            .collect(),
        capture: raw.capture.into(),
        admin: raw.admin.into(),
        dns: raw.dns.into(),
        limits: raw.limits.into(),
        locality: raw.locality.into(),
        kubernetes: raw.kubernetes.model(
            (*defaults).clone(),
            &raw.defaults.policy,
            raw.on_agent_failure.into(),
        ),
    }
}

/// Of a policy that services' own ones stand over, the root of its tree.
pub fn default_policy(policy: &super::raw::Policy, reporter: &mut Reporter<'_>) {
    policy::check(&[], policy, None, reporter);
}

/// Of a policy that stands at `policy` of its tree, for a service that isn't
/// in any file.
pub fn policy_of_service(
    policy: &super::raw::Policy,
    ports: &[model::Port],
    path: model::PathChoice,
    under: &super::raw::Policy,
    reporter: &mut Reporter<'_>,
) {
    let service = super::raw::Service::holding(policy.clone(), ports, path);
    policy::check_service(&[], &service, under, reporter);
}

/// Of a route by itself, the root of its tree.
pub fn route_block(route: &super::raw::Route, reporter: &mut Reporter<'_>) {
    route::check_one(&policy::At(Vec::new()), route, reporter);
}

/// `None` where a key that must be there isn't, which has been reported.
fn service_spec(
    raw: &super::raw::Service,
    file: &File,
    defaults: &Arc<model::Policy>,
) -> Option<ServiceSpec> {
    let retry = || raw.policy.over(&file.defaults.policy).retry;
    let retry = if raw.routes.is_empty() { None } else { retry() };
    let fixed = raw.endpoints.fixed.iter().map(service::instance);
    let routes = raw.routes.iter().enumerate();
    Some(ServiceSpec {
        name: ServiceName::new(&raw.name.as_ref()?.0),
        addresses: raw.address.as_ref()?.as_slice().iter().map(|address| address.0).collect(),
        hostnames: raw.hostnames.iter().map(|hostname| hostname.0.clone()).collect(),
        ports: raw.ports.as_ref()?.iter().map(service::port).collect::<Option<_>>()?,
        path: raw.path.into(),
        on_agent_failure: raw.on_agent_failure.unwrap_or(file.on_agent_failure).into(),
        static_instances: fixed.collect::<Option<_>>()?,
        sources: sources(raw).collect::<Option<_>>()?,
        routes: routes
            .map(|(index, route)| route.model(index, retry.as_ref()))
            .collect::<Option<_>>()?,
        policy: service::policy(raw, file, defaults),
    })
}

fn sources(raw: &super::raw::Service) -> impl Iterator<Item = Option<Source>> {
    let dns = raw.endpoints.dns.iter().flat_map(crate::config::raw::Several::as_slice);
    let http = raw.endpoints.http.iter().flat_map(crate::config::raw::Several::as_slice);
    let kubernetes =
        raw.endpoints.kubernetes.iter().flat_map(crate::config::raw::Several::as_slice);
    dns.map(|source| source.model().map(Source::Dns))
        .chain(http.map(|source| source.model().map(Source::Http)))
        .chain(kubernetes.map(|source| source.model().map(Source::Kubernetes)))
}
