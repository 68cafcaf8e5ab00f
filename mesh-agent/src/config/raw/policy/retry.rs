//! `policy.retry`: which answers are worth another attempt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        raw::section::{section, values},
        text::{Duration, Percent},
    },
    model::{self, Retry as Model},
};

/// What is tried again: Envoy's terms, or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RetryOn {
    /// This one status.
    Status(#[schemars(range(min = 100, max = 599))] u16),
    /// A kind of failure.
    Condition(Condition),
}

macro_rules! conditions {
    ($( $variant:ident = $name:literal, $model:expr, $doc:literal; )*) => {
        /// A kind of failure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        pub enum Condition {
            $( #[doc = $doc] #[serde(rename = $name)] $variant, )*
        }

        impl From<Condition> for model::RetryOn {
            fn from(condition: Condition) -> Self {
                match condition { $( Condition::$variant => $model, )* }
            }
        }
    };
}

// Of gRPC all but OK: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
conditions! {
    ConnectFailure = "connect-failure", Self::ConnectFailure, "No connection to the instance came about.";
    RefusedStream = "refused-stream", Self::RefusedStream, "HTTP/2 `REFUSED_STREAM`, or GOAWAY above the last stream.";
    Reset = "reset", Self::Reset, "The connection broke before the response began.";
    GatewayError = "gateway-error", Self::GatewayError, "502, 503 or 504.";
    ServerError = "5xx", Self::ServerError, "500 to 599.";
    Retriable4xx = "retriable-4xx", Self::Retriable4xx, "409.";
    GrpcCancelled = "grpc:cancelled", Self::Grpc(1), "gRPC status 1.";
    GrpcUnknown = "grpc:unknown", Self::Grpc(2), "gRPC status 2.";
    GrpcInvalidArgument = "grpc:invalid-argument", Self::Grpc(3), "gRPC status 3.";
    GrpcDeadlineExceeded = "grpc:deadline-exceeded", Self::Grpc(4), "gRPC status 4.";
    GrpcNotFound = "grpc:not-found", Self::Grpc(5), "gRPC status 5.";
    GrpcAlreadyExists = "grpc:already-exists", Self::Grpc(6), "gRPC status 6.";
    GrpcPermissionDenied = "grpc:permission-denied", Self::Grpc(7), "gRPC status 7.";
    GrpcResourceExhausted = "grpc:resource-exhausted", Self::Grpc(8), "gRPC status 8.";
    GrpcFailedPrecondition = "grpc:failed-precondition", Self::Grpc(9), "gRPC status 9.";
    GrpcAborted = "grpc:aborted", Self::Grpc(10), "gRPC status 10.";
    GrpcOutOfRange = "grpc:out-of-range", Self::Grpc(11), "gRPC status 11.";
    GrpcUnimplemented = "grpc:unimplemented", Self::Grpc(12), "gRPC status 12.";
    GrpcInternal = "grpc:internal", Self::Grpc(13), "gRPC status 13.";
    GrpcUnavailable = "grpc:unavailable", Self::Grpc(14), "gRPC status 14.";
    GrpcDataLoss = "grpc:data-loss", Self::Grpc(15), "gRPC status 15.";
    GrpcUnauthenticated = "grpc:unauthenticated", Self::Grpc(16), "gRPC status 16.";
}

section! {
    /// Which answers are worth another attempt; for requests that are safe to repeat.
    pub struct Retry {
        /// Failures and statuses that are tried again, beside those that `failover.mode: fast` always repeats. Replaces the default.
        #[schemars(length(max = 64))]
        on: Vec<RetryOn> = ["connect-failure", "refused-stream", "reset"],
        /// Further attempts after the first; `failover.attempts` − 1 unless set.
        #[schemars(range(min = 0, max = 19))]
        attempts: u8,
        /// Each attempt, from the whole head to the start of the response; none unless set.
        per_try_timeout: Duration,
        /// Waiting before another attempt.
        backoff: Backoff,
        /// How much of the live traffic of the service may be retries.
        budget: Budget,
    }

    /// Before the second attempt for a response; doubled with each, with full jitter.
    pub struct Backoff {
        /// The first wait is up to this long.
        base: Duration = Duration(Model::default().backoff.base),
        /// No wait is longer.
        max: Duration = Duration(Model::default().backoff.max),
    }

    /// How much of the live traffic of a service may be retries.
    pub struct Budget {
        /// Of the requests under way.
        percent: Percent = Percent(Model::default().budget.percent),
        /// So many retries at a time are always allowed.
        #[schemars(range(min = 0, max = 1_000_000))]
        min_concurrent: u32 = Model::default().budget.min_concurrent,
    }
}

values! { RetryOn }

impl From<RetryOn> for model::RetryOn {
    fn from(raw: RetryOn) -> Self {
        match raw {
            RetryOn::Status(status) => Self::Status(status),
            RetryOn::Condition(condition) => condition.into(),
        }
    }
}

impl Retry {
    pub fn model(&self) -> Model {
        let fallback = Model::default();
        let backoff = self.backoff.clone().unwrap_or_default();
        let budget = self.budget.clone().unwrap_or_default();
        let on = |on: &Vec<RetryOn>| on.iter().map(|&condition| condition.into()).collect();
        Model {
            on: self.on.as_ref().map_or(fallback.on, on),
            attempts: self.attempts.or(fallback.attempts),
            per_try_timeout: self.per_try_timeout.map(|t| t.0).or(fallback.per_try_timeout),
            backoff: model::Backoff {
                base: backoff.base.map_or(fallback.backoff.base, |base| base.0),
                max: backoff.max.map_or(fallback.backoff.max, |max| max.0),
            },
            budget: model::Budget {
                percent: budget.percent.map_or(fallback.budget.percent, |percent| percent.0),
                min_concurrent: budget.min_concurrent.unwrap_or(fallback.budget.min_concurrent),
            },
        }
    }
}
