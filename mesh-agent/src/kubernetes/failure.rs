//! What went wrong with the API server, in words that say what to do.

use std::{error::Error, fmt, time::Duration};

use serde::Deserialize;

use super::Resource;

/// Why a list or a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// What we want to go on from is forgotten by now: list again.
    Gone,
    /// The cluster doesn't have the resource; it may be installed later.
    NotInstalled,
    /// Anything else, in words, and for how long we are asked to stay away.
    Other { text: String, retry_after: Option<Duration> },
}

/// What is done to a resource, as RBAC's rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Watch,
}

/// Kubernetes' `Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub code: u16,
    pub message: String,
    pub reason: String,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Failure {
    pub fn other(text: impl Into<String>) -> Self {
        Self::Other { text: text.into(), retry_after: None }
    }

    /// No answer came.
    pub fn unreachable(verb: Verb, resource: &Resource, error: &dyn Error) -> Self {
        Self::other(format!("can't {verb} {resource}: {}", chain(error)))
    }

    pub fn refused(
        verb: Verb,
        resource: &Resource,
        status: &Status,
        retry_after: Option<Duration>,
    ) -> Self {
        if status.code == 410 || matches!(status.reason.as_str(), "Expired" | "Gone") {
            return Self::Gone;
        }
        let is_ours_to_miss = !matches!(resource.group, "" | "discovery.k8s.io");
        if status.code == 404 && is_ours_to_miss {
            return Self::NotInstalled;
        }
        let said = excerpt(&status.message);
        let why = match status.code {
            401 => format!(
                "the API server doesn't know who we are: the ServiceAccount is gone or its token \
                 is not accepted ({said})"
            ),
            403 => format!(
                "the ClusterRole needs `{verb}` on it; add it to the rule with apiGroups [{:?}], \
                 resources [{:?}] ({said})",
                resource.group, resource.plural
            ),
            404 => format!(
                "the API server knows no {}: it is too old, or none ({said})",
                resource.version
            ),
            code => format!("the API server answers {code} {} ({said})", status.reason),
        };
        Self::Other { text: format!("can't {verb} {resource}: {why}"), retry_after }
    }
}

/// The last two causes: those before are the layers of a client
/// ("ServiceError: client error (Connect)").
pub(super) fn chain(error: &dyn Error) -> String {
    // A TLS library's manual helps its users, who aren't ours.
    let said = |cause: &dyn Error| {
        let text = cause.to_string();
        text.split(": https://docs.rs/").next().unwrap_or_default().to_owned()
    };
    let mut causes = vec![said(error)];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(said(cause));
        next = cause.source();
    }
    let last = causes.pop().unwrap_or_default();
    match causes.pop() {
        Some(before) if !before.ends_with(&last) && !before.starts_with("ServiceError") => {
            format!("{before}: {last}")
        }
        _ => last,
    }
}

/// Messages of others may be as long as they like.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::{super::Slice, *};
    use crate::kubernetes::Watched;

    #[test]
    fn causes_are_told_without_links_into_a_library() {
        let said = "peer closed connection without sending TLS close_notify: https://docs.rs/a#b";
        let error = std::io::Error::other(std::io::Error::other(said));
        assert_eq!(chain(&error), "peer closed connection without sending TLS close_notify");
    }

    #[test]
    fn a_refusal_says_which_right_is_missing() {
        let refused = |code, reason: &str| {
            let status = Status { code, reason: reason.into(), message: "said".into() };
            Failure::refused(Verb::List, &Slice::RESOURCE, &status, None)
        };
        for (code, parts) in [
            (403, &["can't list endpointslices.discovery.k8s.io", "ClusterRole", "`list`"][..]),
            (401, &["token"]),
            (404, &["too old"]),
            (500, &["answers 500 Oops", "said"]),
        ] {
            let Failure::Other { text, .. } = refused(code, "Oops") else { panic!("{code}") };
            for part in parts {
                assert!(text.contains(part), "{part:?} in {text}");
            }
        }
        assert_eq!(refused(410, "Expired"), Failure::Gone);
        assert_eq!(refused(400, "Expired"), Failure::Gone);
    }
}
