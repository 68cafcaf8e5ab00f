//! Names of things.

use std::{net::IpAddr, path::PathBuf};

use super::Form;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath(pub PathBuf);

/// Name of a service: it stands in commands, metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

/// Lower case, without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(pub String);

/// Part of a locality. Empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(pub String);

impl Form for AbsolutePath {
    const FORMAT: &'static str = "absolute-path";
    const PATTERN: &'static str = "^/";
    const EXPECTED: &'static str = "an absolute path, such as `/sys/fs/cgroup/mesh`";
    const EXAMPLES: &'static [&'static str] = &[];

    fn read(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("must be {}: it starts with `/`", Self::EXPECTED));
        }
        if text.contains('\0') {
            return Err("holds a NUL character, which no path can".into());
        }
        if text.split('/').any(|part| part == "..") {
            return Err("must not hold `..`: write the path that is meant".into());
        }
        // Without doubled and trailing slashes, so that equal paths are equal.
        Ok(Self(PathBuf::from(text).components().collect()))
    }

    fn write(&self) -> String {
        self.0.display().to_string()
    }
}

impl Form for Name {
    const FORMAT: &'static str = "service-name";
    const PATTERN: &'static str = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?$";
    const EXPECTED: &'static str =
        "a name of letters, digits, `-`, `.`, `_` and `/`, such as `reviews`";
    const EXAMPLES: &'static [&'static str] = &["reviews", "shop/cart"];

    fn read(text: &str) -> Result<Self, String> {
        let inner = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if text.len() > 253 {
            return Err("is too long: at most 253 characters".into());
        }
        if text.is_empty() || !text.chars().all(inner) {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        if !outer(text.chars().next()) || !outer(text.chars().next_back()) {
            return Err("must start and end with a letter or digit".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for Hostname {
    const FORMAT: &'static str = "service-hostname";
    const PATTERN: &'static str =
        "^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\\.?$";
    const EXPECTED: &'static str = "a hostname, such as `reviews.default.svc.cluster.local`";
    const EXAMPLES: &'static [&'static str] = &["reviews", "reviews.default.svc.cluster.local"];

    fn read(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.starts_with("*.") {
            return Err("must be a whole hostname: wildcards are not supported".into());
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(format!("must be {}; addresses go under `address`", Self::EXPECTED));
        }
        if name.len() > 253 {
            return Err("is too long: at most 253 characters (RFC 1035)".into());
        }
        for label in name.split('.') {
            if label.len() > 63 {
                return Err("has a part of more than 63 characters (RFC 1035)".into());
            }
            let plain = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
            if label.is_empty() || !plain {
                return Err(format!(
                    "must be {}: letters, digits and `-`, parted by single dots",
                    Self::EXPECTED
                ));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err("has a part that starts or ends with `-`".into());
            }
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for Place {
    const FORMAT: &'static str = "place";
    const PATTERN: &'static str = "^[A-Za-z0-9._-]{0,63}$";
    const EXPECTED: &'static str =
        "up to 63 letters, digits, `-`, `.` and `_`, such as `eu-west-1`";
    const EXAMPLES: &'static [&'static str] = &["eu-west-1"];

    fn read(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.len() > 63 || !text.chars().all(plain) {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// A name to look up. Lower case, without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainName(pub String);

impl Form for DomainName {
    const FORMAT: &'static str = "domain-name";
    const PATTERN: &'static str = Hostname::PATTERN;
    const EXPECTED: &'static str =
        "a name in DNS, such as `web.example.internal` or `_web._tcp.example.internal`";
    const EXAMPLES: &'static [&'static str] =
        &["web.example.internal", "_web._tcp.example.internal"];

    fn read(text: &str) -> Result<Self, String> {
        if text.parse::<IpAddr>().is_ok() {
            return Err(format!("must be {}; addresses go under `static`", Self::EXPECTED));
        }
        Hostname::read(text).map(|name| Self(name.0)).map_err(|error| {
            if error.starts_with("must be") { format!("must be {}", Self::EXPECTED) } else { error }
        })
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// Key of a label of an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelName(pub String);

impl Form for LabelName {
    const FORMAT: &'static str = "label-name";
    const PATTERN: &'static str = "^[A-Za-z0-9_]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9_])?$";
    const EXPECTED: &'static str =
        "a label's name of letters, digits, `-`, `.`, `_` and `/`, such as `version`";
    const EXAMPLES: &'static [&'static str] = &["version", "app.kubernetes.io/name"];

    fn read(text: &str) -> Result<Self, String> {
        let outer = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let inner = |c: char| outer(c) || ".-/".contains(c);
        let ends = text.starts_with(outer) && text.ends_with(outer);
        if text.len() > 253 || !text.chars().all(inner) || !ends {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// Value of a label of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelValue(pub String);

impl Form for LabelValue {
    const FORMAT: &'static str = "label-value";
    const PATTERN: &'static str = "^[^\\x00-\\x1f\\x7f]{0,253}$";
    const EXPECTED: &'static str = "up to 253 characters without control characters, such as `v2`";
    const EXAMPLES: &'static [&'static str] = &["v2"];

    fn read(text: &str) -> Result<Self, String> {
        if text.chars().count() > 253 || text.chars().any(char::is_control) {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}
