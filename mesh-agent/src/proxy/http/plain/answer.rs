//! The head of an answer, where it is plain: a final status, and a length.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header,
    response::Parts,
};
use httparse::{ParserConfig, Status};

/// More fields than that are left to the library, which counts to 100.
const FIELDS: usize = 64;

/// An answer, as far as it has been read.
#[derive(Debug)]
pub(super) struct Answer {
    pub head: Parts,
    /// The beginning of its body, and how much of it is still to come.
    pub body: Bytes,
    pub left: u64,
    /// The connection can serve another request afterwards.
    pub keeps: bool,
}

#[derive(Debug)]
pub(super) enum Parsed {
    Answer(Answer),
    Partial,
    /// Interim, chunked, of unknown length, or wrong.
    Strange,
}

/// Reads the answer to a request of this method.
pub(super) fn parse(bytes: &[u8], method: &Method) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let bytes = Bytes::copy_from_slice(bytes);
    let config = ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, &bytes, &mut fields) {
        Ok(Status::Complete(end)) => {
            let rest = bytes.slice(end..);
            answer(&response, &bytes, &rest, method).map_or(Parsed::Strange, Parsed::Answer)
        }
        Ok(Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Strange,
    }
}

fn answer(
    response: &httparse::Response<'_, '_>,
    bytes: &Bytes,
    rest: &Bytes,
    method: &Method,
) -> Option<Answer> {
    let status = StatusCode::from_u16(response.code?).ok()?;
    if response.version? != 1 || status.is_informational() {
        return None;
    }
    let mut keeps = true;
    let mut length = None;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        match name {
            header::CONTENT_LENGTH if length.is_none() => length = Some(number(field.value)?),
            header::CONNECTION if field.value.eq_ignore_ascii_case(b"keep-alive") => {}
            header::CONNECTION if field.value.eq_ignore_ascii_case(b"close") => keeps = false,
            header::CONTENT_LENGTH
            | header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::UPGRADE => return None,
            _ => {}
        }
        headers.append(name, value);
    }
    let bodiless = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = if bodiless { 0 } else { length? };
    let here = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head.version = Version::HTTP_11;
    head.headers = headers;
    note_reason(&mut head, response.reason?)?;
    Some(Answer {
        head,
        body: rest.slice(..here),
        left: length - here as u64,
        // What nobody asked for is no answer to the next request.
        keeps: keeps && here == rest.len(),
    })
}

/// A reason that isn't the usual one is passed on.
fn note_reason(head: &mut Parts, reason: &str) -> Option<()> {
    if head.status.canonical_reason() != Some(reason) {
        let reason = hyper::ext::ReasonPhrase::try_from(reason.as_bytes()).ok()?;
        head.extensions.insert(reason);
    }
    Some(())
}

/// Digits alone: what a lenient parser makes of anything else is its own.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(method: &Method, text: &str) -> Option<Answer> {
        match parse(text.as_bytes(), method) {
            Parsed::Answer(answer) => Some(answer),
            Parsed::Partial | Parsed::Strange => None,
        }
    }

    #[test]
    fn an_answer_with_a_length_is_read() {
        let text = "HTTP/1.1 200 OK\r\nA: b \r\na: c\r\nConnection: keep-alive\r\n\
                    Content-Length: 5\r\n\r\nhel";
        let answer = answer_to(&Method::GET, text).unwrap();
        assert_eq!(
            (answer.head.status, &answer.body[..], answer.left),
            (StatusCode::OK, &b"hel"[..], 2)
        );
        assert_eq!(answer.head.headers.get_all("a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert!(answer.keeps && answer.head.extensions.is_empty());
    }

    #[test]
    fn the_end_of_an_answer_is_known() {
        for (method, text, body, left, keeps) in [
            (Method::HEAD, "200 OK\r\nContent-Length: 5\r\n\r\n", "", 0, true),
            (Method::GET, "304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", 0, true),
            (Method::GET, "204 No Content\r\n\r\n", "", 0, true),
            (Method::GET, "200 OK\r\nContent-Length: 0\r\n\r\n", "", 0, true),
            (
                Method::GET,
                "200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nab",
                "ab",
                0,
                false,
            ),
            // More than was promised: whose would it be?
            (Method::GET, "200 OK\r\nContent-Length: 2\r\n\r\nabc", "ab", 0, false),
            (Method::HEAD, "200 OK\r\nContent-Length: 2\r\n\r\nab", "", 0, false),
        ] {
            let answer = answer_to(&method, &format!("HTTP/1.1 {text}")).unwrap();
            let read = (&answer.body[..], answer.left, answer.keeps);
            assert_eq!(read, (body.as_bytes(), left, keeps), "{text}");
        }
    }

    #[test]
    fn an_unusual_reason_is_kept() {
        let answer = answer_to(&Method::GET, "HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n");
        let extensions = answer.unwrap().head.extensions;
        assert_eq!(extensions.get::<hyper::ext::ReasonPhrase>().unwrap().as_bytes(), b"Fine");
    }

    #[test]
    fn anything_else_is_strange() {
        for text in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            assert!(matches!(parse(text.as_bytes(), &Method::GET), Parsed::Strange), "{text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
        assert!(matches!(parse(many.as_bytes(), &Method::GET), Parsed::Strange));
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for end in 0..text.len() {
            assert!(
                matches!(parse(&text.as_bytes()[..end], &Method::GET), Parsed::Partial),
                "{end}"
            );
        }
    }
}
