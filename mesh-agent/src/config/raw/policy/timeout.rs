//! `policy.timeout`

use crate::{
    config::{raw::section::section, text::Duration},
    model::Timeouts,
};

section! {
    /// How long things may take.
    pub struct Timeout {
        /// Each attempt to connect to an instance. Unless set: four times the 99th percentile of recent handshakes, from 100ms to 1s.
        connect: Duration,
        /// From the whole head of a request to the whole response; `0s` is no limit.
        request: Duration = Duration(Timeouts::default().request.unwrap_or_default()),
        /// A connection on which nothing moves, in either direction, for this long is closed.
        idle: Duration = Duration(Timeouts::default().idle),
    }
}

impl Timeout {
    pub fn model(&self) -> Timeouts {
        let fallback = Timeouts::default();
        let request = self.request.map_or(fallback.request, |limit| Some(limit.0));
        Timeouts {
            connect: self.connect.map(|limit| limit.0).or(fallback.connect),
            request: request.filter(|limit| !limit.is_zero()),
            idle: self.idle.map_or(fallback.idle, |limit| limit.0),
        }
    }
}
