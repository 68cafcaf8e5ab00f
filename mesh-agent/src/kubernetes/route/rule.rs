//! One rule of a route, as a route of the mesh.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    duration::duration,
    wire::{BackendRef, Filter, GrpcRule, HttpRule, Retry, Timeouts},
    words,
};
use crate::{
    config,
    model::{self, RetryOn},
};

/// A rule that makes sense by itself; what it refers to may not be there.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its backends say their filters only: where they and the mirrors lead
    /// depends on what is there, and its attempts on the service.
    pub route: model::Route,
    pub filters: Vec<Filter>,
    pub backends: Vec<BackendRef>,
    /// Of each attempt.
    backend_timeout: Option<Duration>,
    retry: Option<Retry>,
}

impl Rule {
    pub fn http(rule: HttpRule) -> Result<Self, String> {
        let matches = rule.matches.iter().map(words::http_match).collect::<Result<Vec<_>, _>>()?;
        let mut route = read(&matches, &rule.filters, &rule.backend_refs)?;
        let Timeouts { request, backend_request } = &rule.timeouts;
        route.timeout = request.as_deref().map(duration).transpose()?;
        let backend_timeout = backend_request.as_deref().map(duration).transpose()?;
        let retry = rule.retry;
        if let Some(retry) = &retry {
            possible(retry)?;
        }
        let (backends, filters) = (rule.backend_refs, rule.filters);
        Ok(Self { route, filters, backends, backend_timeout, retry })
    }

    pub fn grpc(rule: GrpcRule) -> Result<Self, String> {
        let matches = rule.matches.iter().map(words::grpc_match).collect::<Result<Vec<_>, _>>()?;
        let unknown =
            |filter: &&Filter| matches!(filter.r#type.as_str(), "RequestRedirect" | "URLRewrite");
        let of_backends = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
        if let Some(filter) = rule.filters.iter().chain(of_backends).find(unknown) {
            return Err(format!("filters: gRPC knows no `{}`", filter.r#type));
        }
        let mut route = read(&matches, &rule.filters, &rule.backend_refs)?;
        for (made, asked) in route.matches.iter_mut().zip(&rule.matches) {
            made.path = made.path.take().or_else(|| words::method_only(asked));
        }
        let (backends, filters) = (rule.backend_refs, rule.filters);
        Ok(Self { route, filters, backends, backend_timeout: None, retry: None })
    }

    /// What is done about attempts that fail, over what the service's policy
    /// says; `None` is the policy's.
    pub fn attempts(&self, policy: &model::Retry) -> Option<model::Retry> {
        if self.retry.is_none() && self.backend_timeout.is_none() {
            return None;
        }
        let mut merged = policy.clone();
        if let Some(limit) = self.backend_timeout {
            merged.per_try_timeout = Some(limit).filter(|limit| !limit.is_zero());
        }
        if let Some(retry) = &self.retry {
            let broken = [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset];
            let codes = retry.codes.iter().map(|&code| RetryOn::Status(code));
            merged.on = broken.into_iter().chain(codes).collect::<Arc<[_]>>();
            if let Some(attempts) = retry.attempts {
                merged.attempts = Some(attempts.min(MOST_ATTEMPTS) as u8);
            }
            let backoff = retry.backoff.as_deref().and_then(|text| duration(text).ok());
            if let Some(base) = backoff.filter(|base| !base.is_zero()) {
                merged.backoff = model::Backoff { base, max: base * 10 };
            }
        }
        Some(merged)
    }
}

/// As many as the file allows after the first.
const MOST_ATTEMPTS: u32 = 19;

fn possible(retry: &Retry) -> Result<(), String> {
    if retry.attempts.is_some_and(|attempts| attempts > MOST_ATTEMPTS) {
        return Err(format!("retry.attempts: at most {MOST_ATTEMPTS} are supported"));
    }
    if let Some(code) = retry.codes.iter().find(|code| !(400..600).contains(*code)) {
        return Err(format!("retry.codes: `{code}` is no error of HTTP (400 to 599)"));
    }
    retry.backoff.as_deref().map_or(Ok(()), |backoff| duration(backoff).map(drop))
}

/// What it says by itself: matches, filters, and those of its backends, in the
/// order of `references`.
fn read(
    matches: &[Value],
    filters: &[Filter],
    references: &[BackendRef],
) -> Result<model::Route, String> {
    let of = |(index, reference): (usize, &BackendRef)| {
        let written = words::filters(&reference.filters);
        let written = written.map_err(|why| format!("backendRefs[{index}].{why}"))?;
        Ok::<_, String>(json!({ "filters": written }))
    };
    let backends = references.iter().enumerate().map(of).collect::<Result<Vec<_>, _>>()?;
    for filter in filters.iter().chain(references.iter().flat_map(|one| &one.filters)) {
        if filter.r#type == "RequestMirror" && filter.request_mirror.is_none() {
            return Err("filters: `requestMirror` is missing".to_owned());
        }
    }
    let filters = words::filters(filters)?;
    let written = json!({ "matches": matches, "filters": filters, "backends": backends });
    config::route(&written).map_err(|problems| {
        let words = problems.problems.iter().map(|one| format!("{}: {}", one.path, one.message));
        words.collect::<Vec<_>>().join("\n")
    })
}

/// What the mirrors among these refer to, in their order.
pub fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &BackendRef> {
    filters.iter().filter_map(|filter| Some(&filter.request_mirror.as_ref()?.backend_ref))
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
