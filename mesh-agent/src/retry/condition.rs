//! Which outcomes of an attempt are followed by another.

use crate::model::{FailoverMode, Retry, RetryOn};

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// No connection to the instance: it never saw the request.
    NotConnected,
    /// The instance said that it didn't look at the request.
    Unseen,
    /// The connection broke before the answer began, or it didn't begin in
    /// time: the instance may have done what was asked, or not.
    Broken { timed_out: bool },
    /// The head of an answer; the gRPC status where the head is all there is.
    Answered { status: u16, grpc: Option<u8> },
}

/// Why there is another attempt; the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    ConnectFailure,
    RefusedStream,
    Reset,
    PerTryTimeout,
    Status,
    Grpc,
}

/// What the decision rests on, beside the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    pub mode: FailoverMode,
    pub retry: &'a Retry,
    /// By RFC 9110 section 9.2.2, from the method.
    pub idempotent: bool,
}

/// Whether another attempt is wanted. Whether there may be one (instances,
/// attempts, budget, the body) is decided elsewhere.
pub fn again(trial: &Trial<'_>, attempt: Attempt) -> Option<Reason> {
    let Trial { mode, retry, idempotent } = *trial;
    if mode == FailoverMode::Once {
        return None;
    }
    let on = |wanted: RetryOn| retry.on.contains(&wanted);
    match attempt {
        Attempt::NotConnected => Some(Reason::ConnectFailure),
        Attempt::Unseen => Some(Reason::RefusedStream),
        // What isn't idempotent may take effect twice: the operator can
        // forbid that, by a `retry.on` without `reset`.
        Attempt::Broken { timed_out } if idempotent || on(RetryOn::Reset) => {
            Some(if timed_out { Reason::PerTryTimeout } else { Reason::Reset })
        }
        Attempt::Broken { .. } => None,
        // Named by the operator for calls, all of which are POST.
        Attempt::Answered { grpc: Some(code), .. } if on(RetryOn::Grpc(code)) => Some(Reason::Grpc),
        Attempt::Answered { status, .. } => {
            let wanted = retry.on.iter().any(|&on| matches_status(on, status));
            (idempotent && wanted).then_some(Reason::Status)
        }
    }
}

fn matches_status(on: RetryOn, status: u16) -> bool {
    match on {
        RetryOn::GatewayError => matches!(status, 502..=504),
        RetryOn::ServerError => matches!(status, 500..=599),
        RetryOn::Retriable4xx => status == 409,
        RetryOn::Status(wanted) => status == wanted,
        _ => false,
    }
}

impl Reason {
    pub const ALL: [Self; 6] = [
        Self::ConnectFailure,
        Self::RefusedStream,
        Self::Reset,
        Self::PerTryTimeout,
        Self::Status,
        Self::Grpc,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectFailure => "connect-failure",
            Self::RefusedStream => "refused-stream",
            Self::Reset => "reset",
            Self::PerTryTimeout => "per-try-timeout",
            Self::Status => "status",
            Self::Grpc => "grpc",
        }
    }

    /// Whether the instance answered: then it may need a rest before the next
    /// attempt. A broken connection needs none.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Status | Self::Grpc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated() {
        const RESET: Attempt = Attempt::Broken { timed_out: false };
        let answer = |status| Attempt::Answered { status, grpc: None };
        let call = |code| Attempt::Answered { status: 200, grpc: Some(code) };
        let default: &[RetryOn] =
            &[RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset];
        for (on, idempotent, attempt, expected) in [
            (&[][..], false, Attempt::NotConnected, Some(Reason::ConnectFailure)),
            (&[], false, Attempt::Unseen, Some(Reason::RefusedStream)),
            (&[], true, RESET, Some(Reason::Reset)),
            (&[], false, RESET, None),
            (default, false, RESET, Some(Reason::Reset)),
            (default, true, Attempt::Broken { timed_out: true }, Some(Reason::PerTryTimeout)),
            (default, true, answer(503), None),
            (&[RetryOn::GatewayError], true, answer(503), Some(Reason::Status)),
            (&[RetryOn::GatewayError], false, answer(503), None),
            (&[RetryOn::GatewayError], true, answer(500), None),
            (&[RetryOn::ServerError], true, answer(500), Some(Reason::Status)),
            (&[RetryOn::Retriable4xx], true, answer(409), Some(Reason::Status)),
            (&[RetryOn::Retriable4xx], true, answer(404), None),
            (&[RetryOn::Status(404)], true, answer(404), Some(Reason::Status)),
            (&[RetryOn::Grpc(14)], false, call(14), Some(Reason::Grpc)),
            (&[RetryOn::Grpc(14)], false, call(5), None),
            (&[RetryOn::Grpc(14)], false, answer(200), None),
        ] {
            let retry = Retry { on: on.into(), ..Retry::default() };
            let trial = |mode| Trial { mode, retry: &retry, idempotent };
            let why = format!("{on:?}, idempotent {idempotent}, {attempt:?}");
            assert_eq!(again(&trial(FailoverMode::Fast), attempt), expected, "{why}");
            assert_eq!(again(&trial(FailoverMode::Once), attempt), None, "{why}");
        }
    }
}
