//! Header fields on their way through (RFC 9110 section 7.6).

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::error::Failure;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Takes out what concerns one hop only. Returns what an upgrade is wanted to,
/// where one is.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // A look at each name costs less than a search for each of these.
    if !headers.keys().any(concerns_one_hop) {
        return None;
    }
    let mut upgrade = None;
    if let Some(value) = headers.get(header::CONNECTION)
        && value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
        && headers.get_all(header::CONNECTION).iter().nth(1).is_none()
    {
        headers.remove(header::CONNECTION);
        if !headers.keys().any(concerns_one_hop) {
            return None;
        }
    } else if headers.contains_key(header::CONNECTION) {
        let options: Vec<HeaderValue> =
            headers.get_all(header::CONNECTION).iter().cloned().collect();
        headers.remove(header::CONNECTION);
        for option in options.iter().flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"upgrade") {
                upgrade = headers.remove(header::UPGRADE);
            } else if option.eq_ignore_ascii_case(b"te") {
                // Decided below: `trailers` goes on.
            } else if let Ok(name) = HeaderName::from_bytes(option) {
                // Framing and routing can't be made hop-by-hop by naming them.
                if name != header::HOST && name != header::CONTENT_LENGTH {
                    headers.remove(name);
                }
            }
        }
    }
    headers.remove(header::UPGRADE);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(header::TRANSFER_ENCODING);
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|&b| b == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(header::TE);
    }
    upgrade.filter(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

fn concerns_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "te" | "upgrade"
            | "connection"
            | "keep-alive"
            | "http2-settings"
            | "proxy-connection"
            | "transfer-encoding"
    )
}

/// A client's address as a field value.
pub(super) fn client(address: IpAddr) -> HeaderValue {
    let text = address.to_canonical().to_string();
    HeaderValue::try_from(text).expect("addresses are header values")
}

/// Adds the client to those that the request came through.
pub(super) fn forwarded_for(headers: &mut HeaderMap, client: &HeaderValue) {
    let mut value = Vec::new();
    for before in headers.get_all(FORWARDED_FOR) {
        value.extend_from_slice(before.as_bytes());
        value.extend_from_slice(b", ");
    }
    let value = if value.is_empty() {
        client.clone()
    } else {
        value.extend_from_slice(client.as_bytes());
        HeaderValue::try_from(value).expect("put together from header values")
    };
    headers.insert(FORWARDED_FOR, value);
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The request target and Host for a version, from whatever form they came in.
pub(super) fn address(parts: &mut request::Parts, version: Version) -> Result<(), Failure> {
    if parts.method == Method::CONNECT {
        parts.version = version;
        return Ok(());
    }
    if version == Version::HTTP_2 {
        if parts.uri.authority().is_none() || parts.uri.scheme().is_none() {
            let authority = match (parts.uri.authority(), parts.headers.get(header::HOST)) {
                (Some(authority), _) => authority.clone(),
                (None, Some(host)) => Authority::try_from(host.as_bytes())
                    .map_err(|_| Failure::Malformed("Host is no authority"))?,
                (None, None) => return Err(Failure::Malformed("there is no Host")),
            };
            parts.uri = full(&parts.uri, authority)?;
        }
        parts.headers.remove(header::HOST);
    } else {
        if let Some(authority) = parts.uri.authority() {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|_| Failure::Malformed("the authority is no Host"))?;
            parts.headers.insert(header::HOST, host);
        }
        if parts.uri.scheme().is_some() {
            let path = parts.uri.path_and_query().cloned();
            parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
    }
    parts.version = version;
    Ok(())
}

fn full(uri: &Uri, authority: Authority) -> Result<Uri, Failure> {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Failure::Malformed("the request target is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_fields_are_taken_out() {
        let mut headers = map(&[
            ("connection", "close, X-Private, te, host"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("host", "a"),
            ("upgrade", "websocket"),
            ("x-public", "2"),
        ]);
        assert_eq!(strip_hop_by_hop(&mut headers), None);
        assert_eq!(headers, map(&[("te", "trailers"), ("host", "a"), ("x-public", "2")]));
    }

    #[test]
    fn an_upgrade_is_told() {
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(strip_hop_by_hop(&mut headers).unwrap(), "websocket");
        let mut headers = map(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]);
        assert_eq!(strip_hop_by_hop(&mut headers), None);
    }

    #[test]
    fn clients_are_appended() {
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1")]);
        forwarded_for(&mut headers, &client("::ffff:2.2.2.2".parse().unwrap()));
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2");
    }

    #[test]
    fn targets_fit_the_version() {
        for (uri, host, version, expected, expected_host) in [
            ("http://a:1/p?q", Some("b"), Version::HTTP_11, "/p?q", Some("a:1")),
            ("/p", Some("b"), Version::HTTP_11, "/p", Some("b")),
            ("http://a", None, Version::HTTP_11, "/", Some("a")),
            ("/p", Some("b:2"), Version::HTTP_2, "http://b:2/p", None),
            ("http://a/p", None, Version::HTTP_2, "http://a/p", None),
        ] {
            let mut request = http::Request::get(uri).body(()).unwrap();
            if let Some(host) = host {
                request.headers_mut().insert("host", host.parse().unwrap());
            }
            let (mut parts, ()) = request.into_parts();
            address(&mut parts, version).unwrap();
            assert_eq!(parts.uri, expected);
            assert_eq!(parts.headers.get("host").map(|host| host.to_str().unwrap()), expected_host);
        }
    }
}
