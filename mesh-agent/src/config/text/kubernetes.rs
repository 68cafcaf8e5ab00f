//! Names of Kubernetes' objects.

use super::{Form, Hostname};

/// Name of a namespace, a Service or a port (RFC 1123's label).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesName(pub String);

/// Name of a node (RFC 1123's subdomain).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(pub String);

fn is_label(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= 63
        && ends.iter().all(|end| end.is_some_and(plain))
        && text.bytes().all(|c| plain(c) || c == b'-')
}

impl Form for KubernetesName {
    const FORMAT: &'static str = "kubernetes-name";
    const PATTERN: &'static str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    const EXPECTED: &'static str =
        "up to 63 lower-case letters, digits and `-`, as Kubernetes names its objects";
    const EXAMPLES: &'static [&'static str] = &["default", "reviews"];

    fn read(text: &str) -> Result<Self, String> {
        match is_label(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("must be {}", Self::EXPECTED)),
        }
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for NodeName {
    const FORMAT: &'static str = "node-name";
    const PATTERN: &'static str = Hostname::PATTERN;
    const EXPECTED: &'static str =
        "a node's name as `kubectl get nodes` shows it, such as `node-7`";
    const EXAMPLES: &'static [&'static str] = &["node-7", "ip-10-0-3-7.eu-west-1.compute.internal"];

    fn read(text: &str) -> Result<Self, String> {
        match text.len() <= 253 && text.split('.').all(is_label) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("must be {}", Self::EXPECTED)),
        }
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}
