//! What a filter compares with: texts with `*`, statuses, instances.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::Ended;

/// A filter that makes no sense; the text says what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub String);

/// Patterns travel as the texts that they were written as.
macro_rules! as_text {
    ($($name:ident),+) => {
        $(
            impl TryFrom<String> for $name {
                type Error = PatternError;

                fn try_from(text: String) -> Result<Self, PatternError> {
                    text.parse()
                }
            }

            impl From<$name> for String {
                fn from(pattern: $name) -> Self {
                    pattern.to_string()
                }
            }
        )+
    };
}

as_text!(Glob, PathPattern, StatusPattern, InstancePattern);

/// A text in which `*` stands for any number of characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

impl Glob {
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The first place is as good as any: what follows it is longest.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for Glob {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.trim().is_empty() {
            true => Err(PatternError("it is empty: use a name, or a pattern such as web-*".into())),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of a request's path, or with a `*` the whole of it. The query
/// counts only where the pattern has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

impl PathPattern {
    pub fn matches(&self, path: &str) -> bool {
        let path = match self.0.contains('?') {
            true => path,
            false => path.split('?').next().unwrap_or_default(),
        };
        match self.0.contains('*') {
            true => Glob(self.0.clone()).matches(path),
            false => path.starts_with(&self.0),
        }
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.starts_with(['/', '*']) {
            true => Ok(Self(text.to_owned())),
            false => Err(PatternError(format!(
                "{text:?} is no path: use a beginning such as /api, or a pattern such as /api/*/items"
            ))),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `503`, `5xx`, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StatusPattern {
    Code(u16),
    /// The first digit.
    Class(u16),
    Ended(Ended),
}

impl StatusPattern {
    pub fn matches(self, status: Option<u16>, ended: Ended) -> bool {
        match self {
            Self::Code(code) => status == Some(code),
            Self::Class(class) => status.is_some_and(|status| status / 100 == class),
            Self::Ended(as_this) => ended == as_this,
        }
    }
}

impl FromStr for StatusPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if let Some(class) = text.strip_suffix("xx")
            && let Ok(class @ 1..=5) = class.parse()
        {
            return Ok(Self::Class(class));
        }
        if let Ok(code @ 100..=599) = text.parse() {
            return Ok(Self::Code(code));
        }
        text.parse().map(Self::Ended).map_err(|_| {
            let words: Vec<_> = Ended::ALL.iter().map(|ended| ended.name()).collect();
            PatternError(format!(
                "{text:?} is no status: use one such as 503, a class such as 5xx, or how it \
                 ended: {}",
                words.join(", ")
            ))
        })
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Class(class) => write!(f, "{class}xx"),
            Self::Ended(ended) => write!(f, "{ended}"),
        }
    }
}

/// An instance's address, with its port or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum InstancePattern {
    Address(IpAddr),
    Socket(SocketAddr),
}

impl InstancePattern {
    pub fn matches(self, instance: SocketAddr) -> bool {
        match self {
            Self::Address(address) => instance.ip() == address,
            Self::Socket(socket) => instance == socket,
        }
    }
}

impl FromStr for InstancePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let socket = text.parse().map(Self::Socket);
        socket.or_else(|_| text.parse().map(Self::Address)).map_err(|_| {
            PatternError(format!(
                "{text:?} is no instance: use an address such as 10.1.0.5 or fd00::5, or one with \
                 its port such as 10.1.0.5:9080 or [fd00::5]:9080"
            ))
        })
    }
}

impl fmt::Display for InstancePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Socket(socket) => write!(f, "{socket}"),
        }
    }
}
