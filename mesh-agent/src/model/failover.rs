//! What happens when an instance fails: attempts, ejection, health checks.

use std::{sync::Arc, time::Duration};

use super::Percent;

/// `failover`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    pub mode: FailoverMode,
    /// For one request or connection, the first included.
    pub attempts: u8,
    /// Request bodies up to this many bytes are kept for another attempt.
    pub replay: usize,
    /// Whether instances that fail leave the set for a time.
    pub ejection: bool,
    pub consecutive: Consecutive,
    /// Of the first exile; doubled with each that follows, up to `max`.
    pub base: Duration,
    pub max: Duration,
    /// Of a tier; one of two may always go.
    pub max_ejected: Percent,
}

/// `failover.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailoverMode {
    /// A failed attempt goes to another instance at once.
    #[default]
    Fast,
    /// The application sees the failure; the instance leaves for a time.
    Once,
}

/// How many failures in a row eject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    pub connect: u32,
    pub responses: u32,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            mode: FailoverMode::Fast,
            attempts: 3,
            replay: 64 * 1024,
            ejection: true,
            consecutive: Consecutive { connect: 3, responses: 5 },
            base: Duration::from_secs(5),
            max: Duration::from_secs(300),
            max_ejected: Percent(50),
        }
    }
}

/// `retry`: which answers are worth another attempt, beside the failures that
/// `failover.mode: fast` always repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// In the order of the file.
    pub on: Arc<[RetryOn]>,
    /// Further attempts after the first; `failover.attempts` − 1 unless set.
    pub attempts: Option<u8>,
    pub per_try_timeout: Option<Duration>,
    /// Before the second attempt for a response; doubled with each, with full
    /// jitter. Attempts for broken connections don't wait.
    pub backoff: Backoff,
    pub budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

/// How much of the live traffic of a service may be retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub percent: Percent,
    pub min_concurrent: u32,
}

/// Envoy's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection to the instance came about.
    ConnectFailure,
    /// HTTP/2 `REFUSED_STREAM`, or GOAWAY above the last stream.
    RefusedStream,
    /// The connection broke before the response began.
    Reset,
    /// 502, 503, 504.
    GatewayError,
    /// 500 to 599.
    ServerError,
    /// 409.
    Retriable4xx,
    /// This one status.
    Status(u16),
    /// This gRPC status, in headers that are trailers.
    Grpc(u8),
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            on: [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset].into(),
            attempts: None,
            per_try_timeout: None,
            backoff: Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) },
            budget: Budget { percent: Percent(20), min_concurrent: 3 },
        }
    }
}

/// `healthCheck`: the agent asks each instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    /// Answers in a row that make it healthy, or unhealthy.
    pub healthy: u32,
    pub unhealthy: u32,
    /// The instance's port unless set.
    pub port: Option<std::num::NonZeroU16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It accepts a connection.
    Tcp,
    /// It answers a GET with a status in the range.
    Http { path: String, host: Option<String>, headers: Vec<(String, String)>, status: (u16, u16) },
    /// The standard health service says SERVING.
    Grpc { service: String },
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
            port: None,
        }
    }
}

impl Probe {
    /// Of a probe by HTTP that doesn't say otherwise.
    pub const PATH: &str = "/";
    pub const STATUS: (u16, u16) = (200, 299);
}

/// `onRemoval`: what becomes of live connections to an instance that was
/// removed or ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRemoval {
    /// They go on until they end.
    #[default]
    Keep,
    /// Reset at once.
    Close,
    /// Reset when the time is over.
    Drain(Duration),
}
