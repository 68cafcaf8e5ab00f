//! Log lines: on standard error, as `time level target: text key=value`, with
//! a filter that can be changed while the agent runs.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use tracing::{Level, Metadata};
use tracing_log::AsLog;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// Where the filter comes from when the command line doesn't give one.
pub const ENVIRONMENT: &str = "MESH_LOG";

/// The filter where nobody gives one.
pub const DEFAULT: &str = "info";

/// Changes the filter of the running agent.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: Arc<reload::Handle<EnvFilter, Registry>>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error(
        "{filter:?} is no log filter: {source}. Use a level (error, warn, info, debug, trace), \
         or levels by module, such as `info,mesh_agent::proxy=debug`"
    )]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("the log filter could not be changed: {0}")]
    Reload(#[from] reload::Error),
    #[error("logging could not be set up: {0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

impl Logs {
    /// Sets up logging for the process, once. What the kernel programs log
    /// comes through the `log` crate and lands here as well.
    pub fn init(filter: &str) -> Result<Self, LogsError> {
        let (filter, handle) = reload::Layer::new(parse(filter)?);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_filter(filter_fn(|metadata| !is_echo(metadata)));
        tracing_subscriber::registry().with(filter).with(lines).try_init()?;
        Ok(Self { filter: Arc::new(handle) })
    }

    /// A handle on a filter that filters nothing, where another owner (a
    /// test's harness) has set up logging.
    pub fn detached() -> (Self, impl Sized) {
        let (layer, handle) = reload::Layer::new(EnvFilter::new(DEFAULT));
        (Self { filter: Arc::new(handle) }, layer)
    }

    /// Takes `filter` from now on; where it is wrong, the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), LogsError> {
        self.filter.reload(parse(filter)?)?;
        // `log` keeps a ceiling of its own, which was set from the first
        // filter: records above it would never get here.
        log::set_max_level(LevelFilter::current().as_log());
        Ok(())
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.filter.with_current(ToString::to_string).unwrap_or_default()
    }
}

/// The client of the API server calls every failed request an error. Who asked
/// knows whether it is one, and says it with the reason.
fn is_echo(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("kube_client::client") && *metadata.level() == Level::ERROR
}

/// Strict: a filter with a typing error would otherwise silence the log.
fn parse(filter: &str) -> Result<EnvFilter, LogsError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogsError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_changes_nothing() {
        let (logs, _layer) = Logs::detached();
        logs.set("warn,mesh_agent::proxy=debug").unwrap();
        let before = logs.filter();
        assert!(before.contains("mesh_agent::proxy=debug"), "{before}");
        let error = logs.set("mesh_agent=loud").unwrap_err().to_string();
        assert!(error.contains("mesh_agent=loud") && error.contains("debug"), "{error}");
        assert_eq!(logs.filter(), before);
    }

    /// What the kernel programs log comes through the `log` crate.
    #[test]
    fn the_log_crate_follows_the_filter() {
        let logs = Logs::init("warn").unwrap();
        let debug = || log::log_enabled!(target: "mesh_agent::kernel", log::Level::Debug);
        assert!(!debug());
        logs.set("warn,mesh_agent::kernel=debug").unwrap();
        assert!(debug());
        assert!(!log::log_enabled!(target: "mesh_agent::proxy", log::Level::Debug));
        assert!(matches!(Logs::init("info"), Err(LogsError::Init(_))), "once for the process");
        logs.set("warn").unwrap();
        assert!(!debug());
    }
}
