//! What the servers need from the agent.

use std::sync::Arc;

use futures_util::{future::BoxFuture, stream::BoxStream};

use super::{
    ConnectionView, DrainOutcome, DrainRequest, EndpointView, ExplainRequest, Explanation,
    LogLevel, ReloadOutcome, ServiceView, Status, TapLine, Traffic,
};
use crate::tap::Filter;

/// The agent behind the interface; `app` implements it.
///
/// What isn't a future may read files and kernel maps: the server calls it
/// where blocking is allowed.
pub trait Control: Send + Sync + 'static {
    fn status(&self) -> Status;

    fn services(&self) -> Vec<ServiceView>;

    /// Of one service, or of all. An unknown service is `NotFound`.
    fn endpoints(&self, service: Option<&str>) -> Result<Vec<EndpointView>, ControlError>;

    fn connections(&self) -> Vec<ConnectionView>;

    /// What was counted so far.
    fn traffic(&self) -> Traffic;

    /// What happens from now on, as it happens. An unknown service is `NotFound`.
    fn tap(
        self: Arc<Self>,
        filter: Filter,
    ) -> Result<BoxStream<'static, Vec<TapLine>>, ControlError>;

    fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ControlError>;

    /// Reads the file again. `Invalid` carries all its problems, one per line.
    fn reload(&self) -> BoxFuture<'_, Result<ReloadOutcome, ControlError>>;

    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<DrainOutcome, ControlError>>;

    /// The log filter in force.
    fn log_level(&self) -> LogLevel;

    fn set_log_level(&self, level: LogLevel) -> Result<LogLevel, ControlError>;

    /// The metrics page: see `telemetry::Exposition`.
    fn metrics(&self) -> String;

    /// Whether the agent lives; what is wrong where it doesn't.
    fn health(&self) -> Result<(), String>;

    /// Whether it serves; what is missing where it doesn't.
    fn ready(&self) -> Result<(), String>;
}

/// Why the answer is no. The text is for the operator, whole as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    /// The agent can't do it now: it drains, or the kernel refused.
    #[error("{0}")]
    Unavailable(String),
}
