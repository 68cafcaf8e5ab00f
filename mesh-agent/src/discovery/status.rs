//! How a source is, to show.

use tokio::time::Instant;

use crate::model::ServiceName;

/// How the last answer of a source was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// None has come yet.
    Waiting,
    Ok,
    /// It says that there is nothing.
    Empty,
    /// None came, or none that can be used: what it said before stands.
    Failing,
}

/// A source and what stands of it.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub service: ServiceName,
    /// `dns` or `http`.
    pub kind: &'static str,
    /// What it is asked for.
    pub target: String,
    pub state: SourceState,
    /// How many stand of it.
    pub instances: usize,
    /// When it answered last, in an earlier run perhaps.
    pub answered: Option<Instant>,
    /// What went wrong last, and when.
    pub last_error: Option<(Instant, String)>,
    /// When it is asked next; `None` while it is being asked.
    pub next_try: Option<Instant>,
    /// Answers so far.
    pub answers: u64,
    /// Times that it was asked and there was none.
    pub errors: u64,
}
