//! One request or connection, as those who watch see it.

use std::{
    fmt,
    net::SocketAddr,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::PatternError;
use crate::model::ServiceName;

/// What happened.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: SystemTime,
    pub kind: Kind,
    pub via: Via,
    pub client: Client,
    /// `None` where the address stopped being a service's meanwhile.
    pub service: Option<ServiceName>,
    /// What the client asked for.
    pub destination: SocketAddr,
    /// `None` where none was picked.
    pub instance: Option<SocketAddr>,
    /// What is spoken.
    pub protocol: &'static str,
    /// Of a request.
    pub request: Option<Request>,
    /// `None` where it has just begun.
    pub end: Option<End>,
}

impl Record {
    pub fn event(&self) -> Event {
        if self.end.is_some() { Event::Ended } else { Event::Begun }
    }
}

/// Whose it is, as far as traffic knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    pub address: Option<SocketAddr>,
    pub pid: u32,
    /// The id of its cgroup.
    pub cgroup: u64,
    /// The cookie of its network namespace.
    pub netns: u64,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: http::Method,
    /// The host that was asked for, as the client wrote it.
    pub authority: Option<String>,
    /// With the query; of CONNECT, the host and port.
    pub path: String,
}

impl Request {
    /// Of a text, that much is kept: a record's size has a bound.
    const LONGEST: usize = 512;

    pub fn new(method: &http::Method, uri: &http::Uri, headers: &http::HeaderMap) -> Self {
        let host = || headers.get(http::header::HOST)?.to_str().ok();
        let authority = uri.authority().map(http::uri::Authority::as_str).or_else(host);
        let path = uri.path_and_query().map(http::uri::PathAndQuery::as_str);
        let path = path.or(authority).unwrap_or("*");
        Self { method: method.clone(), authority: authority.map(Self::cut), path: Self::cut(path) }
    }

    fn cut(text: &str) -> String {
        if text.len() <= Self::LONGEST {
            return text.to_owned();
        }
        let mut end = Self::LONGEST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}…", &text[..end])
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct End {
    pub ended: Ended,
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    /// Why it was refused, or failed.
    pub why: Option<String>,
    pub duration: Duration,
    /// Until the answer began.
    pub first_byte: Option<Duration>,
    /// As the kernel knows it, on its path.
    pub round_trip: Option<Duration>,
    /// By the client, and to it: of a request, the bodies.
    pub sent: u64,
    pub received: u64,
    /// Instances that were tried.
    pub attempts: u32,
    /// That a connection carried.
    pub requests: Option<u64>,
}

macro_rules! words {
    ($($(#[$doc:meta])* $what:literal $name:ident { $($(#[$help:meta])* $variant:ident = $word:literal),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub enum $name { $($(#[$help])* #[serde(rename = $word)] $variant),+ }

            impl $name {
                pub const ALL: &'static [Self] = &[$(Self::$variant),+];

                pub const fn name(self) -> &'static str {
                    match self { $(Self::$variant => $word),+ }
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.name())
                }
            }

            impl FromStr for $name {
                type Err = PatternError;

                fn from_str(text: &str) -> Result<Self, PatternError> {
                    Self::ALL.iter().copied().find(|one| one.name() == text).ok_or_else(|| {
                        let names: Vec<_> = Self::ALL.iter().map(|one| one.name()).collect();
                        PatternError(format!("{text:?} is no {}: use {}", $what, names.join(" or ")))
                    })
                }
            }
        )+
    };
}

words! {
    "event" Event { Begun = "begun", Ended = "ended" }
    "kind" Kind { Request = "request", Connection = "connection" }
    /// The path that it took.
    "path through the mesh" Via { Kernel = "kernel", Proxy = "proxy" }
    /// How it ended.
    "ending" Ended {
        /// A request whose answer reached its end.
        Complete = "complete",
        /// Both ends closed the connection.
        Closed = "closed",
        /// The agent, or a hook, said no.
        Refused = "refused",
        /// No instance took it.
        Failed = "failed",
        /// One end broke the connection off, or an instance its answer.
        Reset = "reset",
        /// The client left before the answer's end.
        Cancelled = "cancelled",
        /// The agent ended it: idle, draining, or its instance was removed.
        Cut = "cut",
    }
}

/// `2026-11-23T00:04:51.123Z`
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day since 1970, in the Gregorian calendar (Hinnant's
/// `civil_from_days`): years begin in March, so that the odd day is their last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (year, month, of_year - (153 * march + 2) / 5 + 1)
}
