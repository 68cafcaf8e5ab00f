//! Checks raw HTTP/1 requests before the HTTP library sees them.
//!
//! The library is lenient where RFC 9112 lets it be; a proxy must not be: what
//! two parsers read differently, one of them can be tricked with (request
//! smuggling). So anything that isn't plainly framed is refused: RFC 9112
//! sections 2.2, 5, 6 and 7. Allocates nothing; what is incomplete stays with
//! the caller.

use super::head::{Head, Lines, is_text};
pub use super::head::{HeadLimits, Violation};

/// What became of the bytes that were fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// That many may go on; the rest is to be fed again, with what follows it.
    pub pass: usize,
    pub violation: Option<Violation>,
}

/// The state of one client connection.
#[derive(Debug)]
pub struct Guard {
    state: State,
    limits: HeadLimits,
    heads: u64,
    /// The request under way wants the connection for another protocol.
    upgrade: bool,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// Bytes of a sized body that are still to come.
    Body(u64),
    Size {
        digits: u8,
        size: u64,
    },
    Extension {
        size: u64,
        length: usize,
    },
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers(Lines),
    /// Waits for the answer to an upgrade: what follows may be anything.
    Paused,
}

/// Of a chunk's extensions, which nobody needs.
const EXTENSION: usize = 256;

impl Guard {
    pub fn new(limits: HeadLimits) -> Self {
        Self { state: State::Head(Head::default()), limits, heads: 0, upgrade: false }
    }

    /// Request heads that went on.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a violation now would be one of a body.
    pub fn in_body(&self) -> bool {
        !matches!(self.state, State::Head(_) | State::Paused)
    }

    pub fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused)
    }

    /// The upgrade was refused: requests go on.
    pub fn resume(&mut self) {
        self.upgrade = false;
        if self.is_paused() {
            self.state = State::Head(Head::default());
        }
    }

    /// Bytes of a sized body that may go on without being fed.
    pub fn unchecked(&self) -> u64 {
        if let State::Body(left) = self.state { left } else { 0 }
    }

    /// That many of them have gone on.
    pub fn skip(&mut self, bytes: usize) {
        if let State::Body(left) = &mut self.state {
            *left -= bytes as u64;
            if *left == 0 {
                self.state = self.after_request();
            }
        }
    }

    fn after_request(&self) -> State {
        if self.upgrade { State::Paused } else { State::Head(Head::default()) }
    }

    /// Takes what has arrived, from the first byte that hasn't gone on yet.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.step(rest) {
                Ok(0) => return Fed { pass: at, violation: None },
                Ok(passed) => at += passed,
                Err(violation) => return Fed { pass: at, violation: Some(violation) },
            }
        }
    }

    /// Goes on by some bytes; 0 where more are needed.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        if let State::Head(head) = &mut self.state {
            let Some(length) = head.scan(rest, self.limits)? else { return Ok(0) };
            self.heads += 1;
            self.upgrade = head.wants_upgrade();
            self.state = match (head.chunked, head.content_length.unwrap_or(0)) {
                (true, _) => State::Size { digits: 0, size: 0 },
                (false, 0) => self.after_request(),
                (false, length) => State::Body(length),
            };
            return Ok(length);
        }
        if let State::Trailers(lines) = &mut self.state {
            let Some(length) = lines.scan_trailers(rest, self.limits)? else { return Ok(0) };
            self.state = self.after_request();
            return Ok(length);
        }
        let Some(&first) = rest.first() else { return Ok(0) };
        self.state = match self.state {
            State::Body(left) => {
                let some = left.min(rest.len() as u64);
                let passed = usize::try_from(some).expect("no more than the slice holds");
                self.skip(passed);
                return Ok(passed);
            }
            State::Data(left) => {
                let some = left.min(rest.len() as u64);
                self.state = if some == left { State::DataCr } else { State::Data(left - some) };
                return Ok(usize::try_from(some).expect("no more than the slice holds"));
            }
            State::Size { digits, size } => match ((first as char).to_digit(16), first) {
                (Some(digit), _) if digits < 15 => {
                    State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
                }
                (None, b'\r') if digits > 0 => State::SizeEnd(size),
                (None, b';') if digits > 0 => State::Extension { size, length: 0 },
                _ => return Err(Violation::Chunk),
            },
            State::Extension { size, length } => match first {
                b'\r' => State::SizeEnd(size),
                _ if length < EXTENSION && is_text(first) => {
                    State::Extension { size, length: length + 1 }
                }
                _ => return Err(Violation::Chunk),
            },
            State::SizeEnd(size) if first == b'\n' => match size {
                0 => State::Trailers(Lines::default()),
                _ => State::Data(size),
            },
            State::DataCr if first == b'\r' => State::DataLf,
            State::DataLf if first == b'\n' => State::Size { digits: 0, size: 0 },
            State::Paused => return Ok(0),
            _ => return Err(Violation::Chunk),
        };
        Ok(1)
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
