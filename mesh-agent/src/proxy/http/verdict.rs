//! What an attempt came to: what it says of the instance, and whether another
//! is to follow.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, header, request};
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::{
    attempts::Answer,
    error::Failure,
    exchange::{Exchange, Head},
    http2::{self, Stream},
    pool::Lease,
    source::RequestBody,
};
use crate::{
    health::Outcome,
    proxy::attempts::Picked,
    registry::Endpoint,
    retry::{self, Attempt, Reason, Trial},
};

/// For a request that was never looked at. Generous, because it is harmless
/// and can be needed: where an instance closes each connection after 50
/// requests and 100 wait, most of them are sent away, again and again.
const RENEWALS: usize = 40;

/// An attempt that came to nothing.
pub(super) struct Failed {
    pub failure: Failure,
    pub attempt: Attempt,
    pub outcome: Outcome,
    /// The request, where another attempt may be made with it.
    pub head: Option<Head>,
    /// The connection was no good any more: that many times, a new one to the
    /// same instance is the right next attempt.
    pub renewals: usize,
}

impl Failed {
    /// The instance never saw the request.
    pub fn not_connected(failure: Failure, head: Head) -> Self {
        let outcome = match &failure {
            Failure::Connect(error) => error.outcome(),
            _ => Outcome::ConnectFailed,
        };
        Self { failure, attempt: Attempt::NotConnected, outcome, head: Some(head), renewals: 0 }
    }

    /// It can't be sent to anybody.
    pub fn for_good(failure: Failure) -> Self {
        let attempt = Attempt::Broken { timed_out: false };
        Self { failure, attempt, outcome: Outcome::Unclear, head: None, renewals: 0 }
    }
}

impl Exchange {
    /// What became of the request that was sent.
    pub fn failed(
        &self,
        endpoint: &Endpoint,
        mut error: TrySendError<Request<RequestBody>>,
        reused: bool,
        spare: Head,
    ) -> Failed {
        let unsent = error.take_message().is_some();
        let error = error.into_error();
        // The client's body broke off, or the instance doesn't speak HTTP:
        // it would be the same again.
        let hopeless = !unsent && (error.is_parse() || error.is_user());
        let repeatable = self.source.is_replayable() && !hopeless;
        Failed {
            renewals: match unsent {
                true => RENEWALS,
                false => usize::from(reused && self.may_repeat_a_broken_one(&spare)),
            },
            attempt: match unsent {
                true => Attempt::Unseen,
                false => Attempt::Broken { timed_out: false },
            },
            outcome: match (unsent, error.is_user()) {
                (false, false) => Outcome::ResponseFailed,
                _ => Outcome::Unclear,
            },
            failure: Failure::Exchange { instance: endpoint.address, error: error.into() },
            head: repeatable.then_some(spare),
        }
    }

    /// What became of the request that was sent on a stream.
    pub fn stream_failed(
        &self,
        endpoint: &Endpoint,
        why: http2::Unanswered,
        stream: &Stream,
        reused: bool,
        spare: Head,
    ) -> Failed {
        use http2::Unanswered::{Broken, GoneAway, Hopeless, NotSent, Refused};
        if matches!(why, NotSent(_) | GoneAway(_)) {
            stream.retire();
        }
        let broken = Attempt::Broken { timed_out: false };
        let (renewals, attempt, outcome) = match why {
            NotSent(_) | GoneAway(_) => (RENEWALS, Attempt::Unseen, Outcome::Unclear),
            // Another instance may take it at once.
            Refused(_) => (0, Attempt::Unseen, Outcome::Unclear),
            Hopeless(_) => (0, broken, Outcome::Unclear),
            Broken(_) => {
                let again = reused && self.may_repeat_a_broken_one(&spare);
                (usize::from(again), broken, Outcome::ResponseFailed)
            }
        };
        let repeatable = self.source.is_replayable() && !matches!(why, Hopeless(_));
        let error = why.error().into();
        Failed {
            renewals,
            attempt,
            outcome,
            failure: Failure::Exchange { instance: endpoint.address, error },
            head: repeatable.then_some(spare),
        }
    }

    /// The connection was closed before the request was sent.
    pub fn unsent(&self, endpoint: &Endpoint, spare: Head) -> Failed {
        let error = "the connection was closed before the request was sent".into();
        Failed {
            renewals: RENEWALS,
            attempt: Attempt::Unseen,
            outcome: Outcome::Unclear,
            failure: Failure::Exchange { instance: endpoint.address, error },
            head: self.source.is_replayable().then_some(spare),
        }
    }

    /// The connection broke before there was an answer to a request without a
    /// body.
    pub fn broken(
        &self,
        endpoint: &Endpoint,
        error: std::io::Error,
        reused: bool,
        spare: Head,
    ) -> Failed {
        Failed {
            renewals: usize::from(reused && self.may_repeat_a_broken_one(&spare)),
            attempt: Attempt::Broken { timed_out: false },
            outcome: Outcome::ResponseFailed,
            failure: Failure::Exchange { instance: endpoint.address, error: error.into() },
            head: self.source.is_replayable().then_some(spare),
        }
    }

    /// No answer within `retry.perTryTimeout`.
    pub fn too_late(&self, endpoint: &Endpoint, lease: &Lease, spare: Head) -> Failed {
        if let Lease::Http2(stream) = lease {
            // It may be dead: the next request had better try a new one.
            stream.retire();
        }
        Failed {
            failure: Failure::PerTryTimeout(endpoint.address),
            attempt: Attempt::Broken { timed_out: true },
            outcome: Outcome::ResponseFailed,
            head: self.source.is_replayable().then_some(spare),
            renewals: 0,
        }
    }

    /// A kept connection may be closed by its instance while a request is on
    /// its way. RFC 9110 section 9.2.2: only what is idempotent is sent again
    /// on a guess, unless failover is to repeat it anyway.
    fn may_repeat_a_broken_one(&self, head: &request::Parts) -> bool {
        let idempotent = head.method.is_idempotent();
        let broken = Attempt::Broken { timed_out: false };
        idempotent || retry::again(&self.trial(idempotent), broken).is_some()
    }

    fn trial(&self, idempotent: bool) -> Trial<'_> {
        Trial { mode: self.port.policy.failover.mode, retry: self.retry(), idempotent }
    }

    /// Tells the instance's health.
    pub fn report(&self, picked: &Picked, result: &Result<Answer, Failed>) {
        let outcome = match result {
            Err(failed) => failed.outcome,
            Ok(answer) => of_answer(answer.response.status().as_u16(), answer.response.headers()),
        };
        let live = &picked.endpoint.live;
        match result {
            Err(failed) if failed.outcome == Outcome::Unclear => {}
            Err(_) => live.observe_failure(None, Instant::now()),
            Ok(answer) if matches!(answer.response.status().as_u16(), 429 | 503) => {
                let after = retry_after(answer.response.headers());
                live.observe_failure(after, Instant::now());
            }
            Ok(_) => {}
        }
        self.port.report(&picked.endpoint, outcome, picked.probe.as_ref());
    }

    /// The time for the whole request is over, and this instance had it.
    pub fn report_timeout(&self) {
        if let Some(picked) = self.waiting.take() {
            // A client that sends slowly is not the instance's fault.
            let outcome = match self.source.is_done() {
                true => Outcome::ResponseFailed,
                false => Outcome::Unclear,
            };
            self.port.report(&picked.endpoint, outcome, picked.probe.as_ref());
        }
    }

    /// Why there is to be another attempt, and what to send with it. `None`
    /// where there is to be none; then `result` is left as it is.
    pub fn again(
        &self,
        result: &mut Result<Answer, Failed>,
        idempotent: bool,
    ) -> Option<(Reason, Head)> {
        let (attempt, head) = match result {
            Err(failed) => (failed.attempt, &mut failed.head),
            Ok(answer) => {
                let status = answer.response.status().as_u16();
                let grpc = self.grpc.then(|| grpc_status(answer.response.headers())).flatten();
                (Attempt::Answered { status, grpc }, &mut answer.spare)
            }
        };
        let reason = retry::again(&self.trial(idempotent), attempt)?;
        Some((reason, head.take()?))
    }
}

/// What an answer's head says of its instance. The gRPC statuses that blame it
/// are those that stand for 500 and above in the gRPC project's
/// http-grpc-status-mapping.md; UNIMPLEMENTED is the caller's mistake.
fn of_answer(status: u16, headers: &HeaderMap) -> Outcome {
    const UNKNOWN: u8 = 2;
    const DEADLINE_EXCEEDED: u8 = 4;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const DATA_LOSS: u8 = 15;
    let call = grpc_status(headers);
    let failed =
        matches!(call, Some(UNKNOWN | DEADLINE_EXCEEDED | INTERNAL | UNAVAILABLE | DATA_LOSS));
    if status >= 500 || failed { Outcome::ResponseFailed } else { Outcome::Answered }
}

/// In seconds only: a date depends on the instance's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The status of a call whose headers are trailers at the same time.
fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_blame_their_instances_or_do_not() {
        let call = |code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers
        };
        for (status, headers, failed) in [
            (200, HeaderMap::new(), false),
            (404, HeaderMap::new(), false),
            (429, HeaderMap::new(), false),
            (500, HeaderMap::new(), true),
            (599, HeaderMap::new(), true),
            (200, call("0"), false),
            (200, call("5"), false),
            (200, call("12"), false),
            (200, call("14"), true),
            (200, call("no number"), false),
        ] {
            let expected = if failed { Outcome::ResponseFailed } else { Outcome::Answered };
            assert_eq!(of_answer(status, &headers), expected, "{status} {headers:?}");
        }
    }
}
