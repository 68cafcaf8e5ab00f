//! A request's head on the wire.

use http::{HeaderValue, Method, header, request::Parts};

/// A head that is larger may not be taken by the socket at once.
const LARGEST: usize = 8 * 1024;

/// Whether the agent itself may send it: nothing in it concerns the connection,
/// and no body follows.
pub(in super::super) fn fits(head: &Parts) -> bool {
    let fields = head.headers.iter();
    let size = fields.fold(0, |size, (name, value)| size + name.as_str().len() + value.len() + 4);
    matches!(head.method, Method::GET | Method::HEAD)
        && size < LARGEST
        && !head.headers.contains_key(header::CONTENT_LENGTH)
        && !head.headers.contains_key(header::EXPECT)
}

pub(super) fn encode(head: &Parts) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(head.method.as_str().as_bytes());
    text.push(b' ');
    let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(HeaderValue::as_bytes(value));
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn heads_are_written_as_they_are() {
        let head = head("GET", "/p?q=%20", &[("Host", "a"), ("x-a", "1"), ("X-A", "2")]);
        assert!(fits(&head));
        let text = String::from_utf8(encode(&head)).unwrap();
        assert_eq!(text, "GET /p?q=%20 HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-a: 2\r\n\r\n");
    }

    #[test]
    fn what_may_have_a_body_or_is_large_does_not_fit() {
        let large = "x".repeat(LARGEST);
        assert!(fits(&head("HEAD", "/", &[("host", "a")])));
        assert!(!fits(&head("POST", "/", &[("host", "a")])));
        assert!(!fits(&head("GET", "/", &[("content-length", "0")])));
        assert!(!fits(&head("GET", "/", &[("expect", "100-continue")])));
        assert!(!fits(&head("GET", "/", &[("x", &large)])));
    }
}
