//! Choices that may carry a name: `header:x-user`.

use super::{Duration, Form, HeaderName};
use crate::model;

/// `loadBalancer.hashOn`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashOn(pub model::HashOn);

/// `rateLimit.by`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitBy(pub model::LimitBy);

/// `onRemoval` in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal(pub model::OnRemoval);

impl Form for HashOn {
    const FORMAT: &'static str = "hash-key";
    const PATTERN: &'static str = "^(source|path|(header|cookie):.{1,256})$";
    const EXPECTED: &'static str = "source, path, header:NAME or cookie:NAME";
    const EXAMPLES: &'static [&'static str] =
        &["source", "path", "header:x-user", "cookie:session"];

    fn read(text: &str) -> Result<Self, String> {
        let key = match text.split_once(':') {
            None if text == "source" => model::HashOn::Source,
            None if text == "path" => model::HashOn::Path,
            Some(("header", name)) => model::HashOn::Header(header(name)?.into()),
            // RFC 6265: a token, as a header's name is; but its case counts.
            Some(("cookie", name)) => match HeaderName::read(name) {
                Ok(_) => model::HashOn::Cookie(name.into()),
                Err(_) => return Err("must be `cookie:` and a cookie's name".into()),
            },
            _ => return Err(format!("must be {}", Self::EXPECTED)),
        };
        Ok(Self(key))
    }

    fn write(&self) -> String {
        match &self.0 {
            model::HashOn::Source => "source".into(),
            model::HashOn::Path => "path".into(),
            model::HashOn::Header(name) => format!("header:{name}"),
            model::HashOn::Cookie(name) => format!("cookie:{name}"),
        }
    }
}

impl Form for LimitBy {
    const FORMAT: &'static str = "limit-key";
    const PATTERN: &'static str = "^(service|client|header:.{1,256})$";
    const EXPECTED: &'static str = "service, client or header:NAME";
    const EXAMPLES: &'static [&'static str] = &["service", "client", "header:x-user"];

    fn read(text: &str) -> Result<Self, String> {
        let by = match text.split_once(':') {
            None if text == "service" => model::LimitBy::Service,
            None if text == "client" => model::LimitBy::Client,
            Some(("header", name)) => model::LimitBy::Header(header(name)?.into()),
            _ => return Err(format!("must be {}", Self::EXPECTED)),
        };
        Ok(Self(by))
    }

    fn write(&self) -> String {
        match &self.0 {
            model::LimitBy::Service => "service".into(),
            model::LimitBy::Client => "client".into(),
            model::LimitBy::Header(name) => format!("header:{name}"),
        }
    }
}

impl Form for Removal {
    const FORMAT: &'static str = "on-removal";
    const PATTERN: &'static str = "^(keep|close|drain: ?[0-9]{1,11}(ms|s|m|h))$";
    const EXPECTED: &'static str = "keep, close or `drain: 30s`";
    const EXAMPLES: &'static [&'static str] = &["keep", "close", "drain: 30s"];

    fn read(text: &str) -> Result<Self, String> {
        let removal = match text.split_once(':') {
            None if text == "keep" => model::OnRemoval::Keep,
            None if text == "close" => model::OnRemoval::Close,
            Some(("drain", after)) => {
                let after = Duration::read(after.strip_prefix(' ').unwrap_or(after))?;
                model::OnRemoval::Drain(after.0)
            }
            _ => return Err(format!("must be {}", Self::EXPECTED)),
        };
        Ok(Self(removal))
    }

    fn write(&self) -> String {
        match self.0 {
            model::OnRemoval::Keep => "keep".into(),
            model::OnRemoval::Close => "close".into(),
            model::OnRemoval::Drain(after) => format!("drain: {}", Duration(after).write()),
        }
    }
}

fn header(name: &str) -> Result<String, String> {
    let wrong = || "must be `header:` and a header's name, such as `header:x-user`".to_owned();
    HeaderName::read(name).map(|name| name.0).map_err(|_| wrong())
}
