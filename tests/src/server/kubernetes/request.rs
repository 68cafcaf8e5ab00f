//! What a request asks for.

use super::{
    failure::Failure,
    resource::{RESOURCES, Resource},
};

/// A path below `/api` or `/apis` that names objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub status: bool,
}

/// Parameters of a request's query.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// How much of objects a client wants to see, by its `Accept` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Whole,
    Metadata,
}

impl Target {
    /// `None` for paths that are no resource's.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status"]) => {
                (Some(decode(namespace)), rest)
            }
            _ => (None, rest),
        };
        let (plural, name, status) = match rest {
            [plural] => (plural, None, false),
            [plural, name] => (plural, Some(decode(name)), false),
            [plural, name, "status"] => (plural, Some(decode(name)), true),
            _ => return None,
        };
        let resource = RESOURCES.iter().find(|one| {
            (one.group, one.version, one.plural) == (group, version, plural)
                && (one.namespaced || namespace.is_none())
                && (one.status || !status)
        })?;
        Some(Self { resource, namespace, name, status })
    }
}

impl Query {
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// Empty where it isn't there.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    pub fn is_set(&self, key: &str) -> bool {
        matches!(self.get(key), "true" | "1")
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        match self.get(key) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Failure::bad_request(format!("invalid {key}: {text:?}"))),
            },
        }
    }
}

impl View {
    pub fn accepted(accept: &str) -> Self {
        // The first that this server can make.
        let wants = accept.split(',').find(|kind| !kind.contains("as=Table")).unwrap_or_default();
        if wants.contains("as=PartialObjectMetadata") { Self::Metadata } else { Self::Whole }
    }
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let digits = str::from_utf8(&digits).unwrap_or("00");
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let parse = |path: &str| {
            Target::parse(path).map(|target| {
                let namespace = target.namespace.unwrap_or_default();
                (target.resource.plural, namespace, target.name.unwrap_or_default(), target.status)
            })
        };
        let some = |plural, namespace: &str, name: &str, status| {
            Some((plural, namespace.to_owned(), name.to_owned(), status))
        };
        assert_eq!(parse("/api/v1/services"), some("services", "", "", false));
        assert_eq!(parse("/api/v1/namespaces"), some("namespaces", "", "", false));
        assert_eq!(parse("/api/v1/namespaces/a"), some("namespaces", "", "a", false));
        assert_eq!(parse("/api/v1/namespaces/a/status"), some("namespaces", "", "a", true));
        assert_eq!(parse("/api/v1/namespaces/a/pods/b"), some("pods", "a", "b", false));
        let policies = "/apis/mesh.dev/v1alpha1/namespaces/a/meshpolicies/b/status";
        assert_eq!(parse(policies), some("meshpolicies", "a", "b", true));
        assert_eq!(parse("/apis/mesh.dev/v1/meshpolicies"), None);
        assert_eq!(parse("/apis/discovery.k8s.io/v1/endpointslices/a/status"), None);
    }

    #[test]
    fn queries() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&limit=5");
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert!(query.is_set("watch"));
        assert_eq!(query.number("limit").expect("a number"), Some(5));
        assert!(Query::parse("limit=x").number("limit").is_err());
    }
}
