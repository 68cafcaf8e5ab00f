//! Where something is reached.

use std::net::{IpAddr, SocketAddr};

use super::Form;

/// An address and port to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip(pub IpAddr);

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

/// An address and port to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(pub SocketAddr);

impl Form for Server {
    const FORMAT: &'static str = "server-address";
    const PATTERN: &'static str = "^([0-9.]+:[0-9]{1,5}|\\[[0-9A-Fa-f:.%]+\\]:[0-9]{1,5})$";
    const EXPECTED: &'static str = "an address and port, such as `10.0.0.2:53` or `[fd00::2]:53`";
    const EXAMPLES: &'static [&'static str] = &["10.0.0.2:53", "[fd00::2]:53"];

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err("has the port 0, where nothing listens".into())
            } else if address.ip().is_unspecified() || address.ip().is_multicast() {
                Err("is not the address of one server".into())
            } else {
                Ok(Self(address))
            };
        }
        let hint = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("; add the port: `{text}:53`"),
            Ok(IpAddr::V6(_)) => format!("; add the port: `[{text}]:53`"),
            Err(_) => String::new(),
        };
        Err(format!("must be {}{hint}", Self::EXPECTED))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

/// Of a plain HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

impl Form for Url {
    const FORMAT: &'static str = "http-url";
    const PATTERN: &'static str = "^http://[^/?#@\\s]+([/?][^#\\s]*)?$";
    const EXPECTED: &'static str = "a URL, such as `http://10.0.0.3:8500/v1/health/service/web`";
    const EXAMPLES: &'static [&'static str] =
        &["http://10.0.0.3/sd.json", "http://10.0.0.3:8500/v1/health/service/web"];

    fn read(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("asks for TLS, which the agent doesn't speak: only `http://`".into());
        }
        let wrong = || format!("must be {}", Self::EXPECTED);
        if !text.starts_with("http://") || text.contains(|c: char| c.is_whitespace() || c == '#') {
            return Err(wrong());
        }
        let url: http::Uri = text.parse().map_err(|_| wrong())?;
        let authority = url.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("names a user: send an `authorization` header under `headers`".into());
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if authority.host().is_empty()
            || (!port.is_empty() && authority.port_u16().unwrap_or(0) == 0)
        {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}
