//! Reads a request head line by line, as strictly as a proxy must: RFC 9112
//! sections 2.2, 5 and 6. Allocates nothing; what is incomplete stays with the
//! caller.

use memchr::{memchr, memchr2};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the request line is malformed")]
    RequestLine,
    #[error("a line doesn't end with CR LF")]
    LineEnd,
    #[error("a header field is malformed")]
    Field,
    #[error("a header field is folded over several lines")]
    Folded,
    #[error("the Host field is missing, repeated or malformed")]
    Host,
    #[error("Content-Length is repeated or not a number")]
    ContentLength,
    #[error("Transfer-Encoding is not exactly `chunked` once, or not allowed here")]
    TransferEncoding,
    #[error("a chunk is malformed")]
    Chunk,
    #[error("the request head is too large")]
    TooLarge,
}

/// Bounds of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub size: usize,
    pub fields: usize,
}

/// Progress through lines that are held back until the last one is there.
#[derive(Debug, Default)]
pub(super) struct Lines {
    start: usize,
    /// No line end before this.
    searched: usize,
    fields: usize,
}

#[derive(Debug, Default)]
pub(super) struct Head {
    lines: Lines,
    request_line: bool,
    http10: bool,
    connect: bool,
    pub content_length: Option<u64>,
    pub chunked: bool,
    hosts: usize,
    upgrade: bool,
    connection_upgrade: bool,
}

impl Lines {
    /// The next whole line without its end, or `None` until there is one.
    fn next<'a>(&mut self, bytes: &'a [u8], limit: usize) -> Result<Option<&'a [u8]>, Violation> {
        let Some(found) = memchr2(b'\r', b'\n', &bytes[self.searched..]) else {
            self.searched = bytes.len();
            return if bytes.len() > limit { Err(Violation::TooLarge) } else { Ok(None) };
        };
        let end = self.searched + found;
        // A CR is a line end only together with the LF that follows it.
        self.searched = end;
        if end + 2 > limit {
            return Err(Violation::TooLarge);
        }
        if bytes[end] == b'\n' {
            return Err(Violation::LineEnd);
        }
        match bytes.get(end + 1) {
            Some(b'\n') => {
                let line = &bytes[self.start..end];
                self.start = end + 2;
                self.searched = self.start;
                Ok(Some(line))
            }
            Some(_) => Err(Violation::LineEnd),
            None => Ok(None),
        }
    }

    fn count_field(&mut self, limits: HeadLimits) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > limits.fields { Err(Violation::TooLarge) } else { Ok(()) }
    }

    pub fn scan_trailers(
        &mut self,
        bytes: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<usize>, Violation> {
        while let Some(line) = self.next(bytes, limits.size)? {
            if line.is_empty() {
                return Ok(Some(self.start));
            }
            self.count_field(limits)?;
            let (name, _) = field(line)?;
            // RFC 9110 section 6.5.1: no framing or routing in trailers.
            for forbidden in ["content-length", "transfer-encoding", "host"] {
                if name.eq_ignore_ascii_case(forbidden.as_bytes()) {
                    return Err(Violation::Field);
                }
            }
        }
        Ok(None)
    }
}

impl Head {
    /// The length of the head once it is whole.
    pub fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, Violation> {
        while let Some(line) = self.lines.next(bytes, limits.size)? {
            if !self.request_line {
                // RFC 9112 section 2.2: empty lines before it are ignored.
                if !line.is_empty() {
                    self.take_request_line(line)?;
                }
            } else if line.is_empty() {
                return self.finish().map(|()| Some(self.lines.start));
            } else {
                self.lines.count_field(limits)?;
                self.take_field(line)?;
            }
        }
        Ok(None)
    }

    fn take_request_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let bad = Violation::RequestLine;
        let first = memchr(b' ', line).ok_or(bad)?;
        let (method, rest) = (&line[..first], &line[first + 1..]);
        let second = memchr(b' ', rest).ok_or(bad)?;
        let (target, version) = (&rest[..second], &rest[second + 1..]);
        if !is_token(method) || target.is_empty() || !target.iter().all(|&b| b > b' ' && b != 0x7f)
        {
            return Err(bad);
        }
        self.http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(bad),
        };
        self.connect = method == b"CONNECT";
        self.request_line = true;
        Ok(())
    }

    fn take_field(&mut self, line: &[u8]) -> Result<(), Violation> {
        let (name, value) = field(line)?;
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 || value.iter().any(|b| b" \t,/\\@?#".contains(b)) {
                    return Err(Violation::Host);
                }
            }
            7 if is(b"upgrade") => self.upgrade |= !value.eq_ignore_ascii_case(b"h2c"),
            10 if is(b"connection") => {
                self.connection_upgrade |= value
                    .split(|&b| b == b',')
                    .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            14 if is(b"content-length") => {
                if self.content_length.is_some() {
                    return Err(Violation::ContentLength);
                }
                self.content_length = Some(number(value).ok_or(Violation::ContentLength)?);
            }
            17 if is(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Violation> {
        if self.hosts == 0 && !self.http10 {
            return Err(Violation::Host);
        }
        let has_length = self.content_length.is_some();
        if self.chunked && (self.http10 || has_length || self.connect) {
            return Err(Violation::TransferEncoding);
        }
        if self.connect && has_length {
            return Err(Violation::ContentLength);
        }
        Ok(())
    }

    pub fn wants_upgrade(&self) -> bool {
        self.connect || (self.upgrade && self.connection_upgrade && !self.http10)
    }
}

/// A field line's name and value.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Violation::Folded);
    }
    let colon = memchr(b':', line).ok_or(Violation::Field)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // A name is a token: that excludes whitespace before the colon.
    if !is_token(name) || !value.iter().all(|&byte| is_text(byte)) {
        return Err(Violation::Field);
    }
    Ok((name, value.trim_ascii()))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// No control characters, except the tab.
pub(super) fn is_text(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// RFC 9110 section 5.6.2.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};
