//! Parts of HTTP messages.

use super::{Form, Hostname};

/// Lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(pub String);

/// Upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(pub String);

/// A hostname or `*.` and a hostname. Lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(pub String);

/// The path of a request: no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(pub String);

/// A regular expression, of a whole value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

/// Of the name of a query parameter, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter(pub String);

/// Statuses of HTTP, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange(pub (u16, u16));

impl Form for HeaderName {
    const FORMAT: &'static str = "header-name";
    const PATTERN: &'static str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$";
    const EXPECTED: &'static str = "a header's name, such as `x-user`";
    const EXAMPLES: &'static [&'static str] = &["x-user"];

    fn read(text: &str) -> Result<Self, String> {
        if text.len() > 256 {
            return Err("is too long: at most 256 characters".into());
        }
        (http::HeaderName::from_bytes(text.as_bytes()))
            .map(|name| Self(name.as_str().to_owned()))
            .map_err(|_| format!("must be {}", Self::EXPECTED))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for HeaderValue {
    const FORMAT: &'static str = "header-value";
    const PATTERN: &'static str =
        "^([^\\x00-\\x20\\x7f]([^\\x00-\\x08\\x0a-\\x1f\\x7f]*[^\\x00-\\x20\\x7f])?)?$";
    const MAX_LENGTH: Option<u32> = Some(4096);
    const EXPECTED: &'static str =
        "a header's value: on one line, no blanks around it, at most 4096 bytes";
    const EXAMPLES: &'static [&'static str] = &["a value"];

    fn read(text: &str) -> Result<Self, String> {
        let bare = text.trim_matches([' ', '\t']).len() == text.len();
        if text.len() > 4096 || !bare || http::HeaderValue::from_str(text).is_err() {
            // Other than in a header, text beyond ASCII is bytes of UTF-8.
            let utf8 = http::HeaderValue::from_bytes(text.as_bytes());
            if text.len() > 4096 || !bare || utf8.is_err() {
                return Err(format!("must be {}", Self::EXPECTED));
            }
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for Method {
    const FORMAT: &'static str = "http-method";
    const PATTERN: &'static str = "^[A-Z][A-Z0-9_-]{0,31}$";
    const EXPECTED: &'static str = "a method in upper case, such as `GET`";
    const EXAMPLES: &'static [&'static str] = &["GET", "POST"];

    fn read(text: &str) -> Result<Self, String> {
        let inner = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_-".contains(c);
        let upper = text.starts_with(|c: char| c.is_ascii_uppercase());
        if !upper || text.len() > 32 || !text.chars().all(inner) {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for HostPattern {
    const FORMAT: &'static str = "host-pattern";
    const PATTERN: &'static str =
        "^(\\*\\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\\.?$";
    const EXPECTED: &'static str = "a hostname, such as `api.example.org` or `*.example.org`";
    const EXAMPLES: &'static [&'static str] = &["api.example.org", "*.example.org"];

    fn read(text: &str) -> Result<Self, String> {
        let (star, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
        match Hostname::read(name) {
            // An address is a host too, but nothing is below it.
            Err(_) if star.is_empty() && name.parse::<std::net::Ipv4Addr>().is_ok() => {
                Ok(Self(name.to_owned()))
            }
            Ok(host) => Ok(Self(format!("{star}{}", host.0))),
            Err(_) => Err(format!("must be {}; without a port", Self::EXPECTED)),
        }
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for RequestPath {
    const FORMAT: &'static str = "request-path";
    const PATTERN: &'static str = "^/[^?#\\s\\x00-\\x20\\x7f]*$";
    const MAX_LENGTH: Option<u32> = Some(1024);
    const EXPECTED: &'static str = "a path that starts with `/`, such as `/api/v1`";
    const EXAMPLES: &'static [&'static str] = &["/", "/api/v1"];

    fn read(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        if text.contains(['?', '#']) {
            return Err("must be a path without query and fragment".into());
        }
        if text.len() > 1024 {
            return Err("is too long: at most 1024 bytes".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for Pattern {
    const FORMAT: &'static str = "rust-regex";
    const PATTERN: &'static str = "^.+$";
    const MAX_LENGTH: Option<u32> = Some(1024);
    const EXPECTED: &'static str =
        "a regular expression (RE2's syntax) of the whole value, such as `/item/[0-9]+`";
    const EXAMPLES: &'static [&'static str] = &["/item/[0-9]+"];

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("must be {}", Self::EXPECTED));
        }
        if text.chars().count() > 1024 {
            return Err("is too long: at most 1024 characters".into());
        }
        match crate::model::whole(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                // The last line says what; those before draw a picture of it.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                Err(format!(
                    "is not a regular expression: {}",
                    reason.trim_start_matches("error: ")
                ))
            }
        }
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

impl Form for StatusRange {
    const FORMAT: &'static str = "status-range";
    const PATTERN: &'static str = "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$";
    const EXPECTED: &'static str = "a status or a range of them, such as `200-399`";
    const EXAMPLES: &'static [&'static str] = &["200-399", "204"];

    fn read(text: &str) -> Result<Self, String> {
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|c| c.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|s| (100..=599).contains(s))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self((first, last))),
            (Some(_), Some(_)) => Err("ends before it starts: write the lower status first".into()),
            _ => Err(format!("must be {}", Self::EXPECTED)),
        }
    }

    fn write(&self) -> String {
        match self.0 {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        }
    }
}

impl Form for Parameter {
    const FORMAT: &'static str = "query-parameter";
    const PATTERN: &'static str = "^.{1,256}$";
    const EXPECTED: &'static str = "a query parameter's name, decoded, such as `version`";
    const EXAMPLES: &'static [&'static str] = &["version"];

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            return Err(format!("must be {}, of 1 to 256 characters", Self::EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}
