//! Values that are written as text in a form of their own: one reader for each,
//! used by the check of the file's shape and by decoding alike.

use std::{net::IpAddr, net::SocketAddr, path::PathBuf, time::Duration as StdDuration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// `250ms`, `5s`, `1m`, `3h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub StdDuration);

/// `64KiB`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath(pub PathBuf);

/// An address and port to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip(pub IpAddr);

/// Name of a service: it stands in commands, metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

/// Lower case, without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(pub String);

/// Part of a locality. Empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(pub String);

/// A form of text. `read` says what is wrong, and what would be right.
pub trait Form: Sized {
    /// `format` in the JSON Schema, by which [`problem`] finds the form.
    const FORMAT: &'static str;
    /// For editors; what it lets pass, `read` may still refuse.
    const PATTERN: &'static str;
    /// What to write instead of something else altogether.
    const EXPECTED: &'static str;
    const EXAMPLES: &'static [&'static str];

    fn read(text: &str) -> Result<Self, String>;
    fn write(&self) -> String;
}

macro_rules! forms {
    ($($form:ident)*) => {
        /// What is wrong with text that should have this `format`.
        pub fn problem(format: &str, text: &str) -> Option<String> {
            match format {
                $($form::FORMAT => $form::read(text).err(),)*
                _ => None,
            }
        }

        /// What text of this `format` is, in words.
        pub fn expected(format: &str) -> Option<&'static str> {
            match format {
                $($form::FORMAT => Some($form::EXPECTED),)*
                _ => None,
            }
        }

        $(
            impl Serialize for $form {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(&self.write())
                }
            }

            impl<'de> Deserialize<'de> for $form {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    Self::read(&text).map_err(D::Error::custom)
                }
            }

            impl JsonSchema for $form {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($form).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({
                        "type": "string",
                        "format": Self::FORMAT,
                        "pattern": Self::PATTERN,
                        "examples": Self::EXAMPLES,
                    })
                }
            }
        )*
    };
}

forms!(Duration Size AbsolutePath Listen Ip Name Hostname Place);

/// Number and unit, or `None`.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

impl Form for Duration {
    const FORMAT: &'static str = "duration-with-unit";
    const PATTERN: &'static str = "^[0-9]{1,11}(ms|s|m|h)$";
    const EXPECTED: &'static str =
        "a duration: a whole number and a unit, such as `250ms`, `5s`, `1m` or `3h`";
    const EXAMPLES: &'static [&'static str] = &["250ms", "5s", "1m", "3h"];

    fn read(text: &str) -> Result<Self, String> {
        const LONGEST: u64 = 365 * 24 * 3_600_000;
        let milliseconds = match quantity(text) {
            Some((number, "ms")) => Some(number),
            Some((number, "s")) => Some(number.saturating_mul(1000)),
            Some((number, "m")) => Some(number.saturating_mul(60_000)),
            Some((number, "h")) => Some(number.saturating_mul(3_600_000)),
            _ => None,
        };
        match milliseconds {
            None => Err(format!("must be {}", Self::EXPECTED)),
            Some(long) if long > LONGEST => Err("is too long: at most `8760h`".into()),
            Some(milliseconds) => Ok(Self(StdDuration::from_millis(milliseconds))),
        }
    }

    fn write(&self) -> String {
        let milliseconds = self.0.as_millis();
        for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if milliseconds >= length && milliseconds.is_multiple_of(length) {
                return format!("{}{unit}", milliseconds / length);
            }
        }
        if milliseconds == 0 { "0s".into() } else { format!("{milliseconds}ms") }
    }
}

impl Form for Size {
    const FORMAT: &'static str = "size-with-unit";
    const PATTERN: &'static str = "^[0-9]{1,12}(B|KiB|MiB|GiB)$";
    const EXPECTED: &'static str =
        "a size: a whole number and a unit (B, KiB, MiB, GiB), such as `64KiB`";
    const EXAMPLES: &'static [&'static str] = &["64KiB", "10MiB"];

    fn read(text: &str) -> Result<Self, String> {
        let (number, shift) = match quantity(text) {
            Some((number, "B")) => (number, 0),
            Some((number, "KiB")) => (number, 10),
            Some((number, "MiB")) => (number, 20),
            Some((number, "GiB")) => (number, 30),
            _ => return Err(format!("must be {}", Self::EXPECTED)),
        };
        let bytes = number.checked_mul(1 << shift).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| "is too large to count in bytes".into())
    }

    fn write(&self) -> String {
        for (unit, length) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= length && self.0.is_multiple_of(length) {
                return format!("{}{unit}", self.0 / length);
            }
        }
        format!("{}B", self.0)
    }
}

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

impl Form for Listen {
    const FORMAT: &'static str = "listen-address";
    const PATTERN: &'static str = "^(off|[0-9.]+:[0-9]{1,5}|\\[[0-9A-Fa-f:.%]+\\]:[0-9]{1,5})$";
    const EXPECTED: &'static str =
        "an address and port such as `127.0.0.1:15020` or `[::1]:15020`, or `off`";
    const EXAMPLES: &'static [&'static str] = &["127.0.0.1:15020", "[::1]:15020", "off"];

    fn read(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| format!("must be {}", Self::EXPECTED))
    }

    fn write(&self) -> String {
        self.0.map_or_else(|| "off".into(), |address| address.to_string())
    }
}

impl Form for Ip {
    const FORMAT: &'static str = "ip";
    const PATTERN: &'static str = "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$";
    const EXPECTED: &'static str = "an IPv4 or IPv6 address, such as `10.96.0.11` or `fd00::11`";
    const EXAMPLES: &'static [&'static str] = &["10.96.0.11", "fd00::11"];

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return match address {
                IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                    Err("is an IPv4 address inside of an IPv6 one: write it as IPv4".into())
                }
                _ => Ok(Self(address)),
            };
        }
        let hint = if text.parse::<SocketAddr>().is_ok() {
            "; the port goes under `port`"
        } else if text.contains('/') {
            "; a prefix can't stand here, name one address"
        } else if text.contains(['[', ']']) {
            "; no brackets around it"
        } else if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') {
            "; names are not looked up here"
        } else {
            ""
        };
        Err(format!("must be {}{hint}", Self::EXPECTED))
    }

    fn write(&self) -> String {
        self.0.to_string()
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
