//! Changes of headers.

use http::{HeaderMap, HeaderName, HeaderValue, header, request};

use crate::model::HeaderChanges;

/// Made in this order.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

const VALIDATED: &str = "validated by `config`";

impl Changes {
    pub fn new(changes: &HeaderChanges) -> Self {
        let name = |name: &String| HeaderName::try_from(name).expect(VALIDATED);
        let field = |(key, value): &(String, String)| {
            (name(key), HeaderValue::from_bytes(value.as_bytes()).expect(VALIDATED))
        };
        Self {
            set: changes.set.iter().map(field).collect(),
            add: changes.add.iter().map(field).collect(),
            remove: changes.remove.iter().map(name).collect(),
        }
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// To a request: `host` may stand in its target too.
    pub fn apply_to_request(&self, head: &mut request::Parts) {
        self.apply(&mut head.headers);
        if let Some((_, host)) = self.set.iter().find(|(name, _)| *name == header::HOST) {
            set_host(head, host);
        }
    }
}

/// Of a request, which may name it in its target too.
pub fn set_host(head: &mut request::Parts, host: &HeaderValue) {
    head.headers.insert(header::HOST, host.clone());
    if head.uri.authority().is_some() {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        // What is no authority is told by the Host field alone.
        let authority = host.as_bytes().try_into().ok();
        parts.scheme = parts.scheme.filter(|_| authority.is_some());
        parts.authority = authority;
        head.uri = http::Uri::from_parts(parts).unwrap_or_default();
    }
}
