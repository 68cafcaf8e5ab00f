//! `policy.failover` and `onRemoval`: what happens when an instance fails or goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        raw::{
            same::same,
            section::{Over, section, values},
        },
        text::{Duration, Percent, Removal, Size},
    },
    model::{self, Consecutive as Counts, Failover as Model},
};

/// What becomes of an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailoverMode {
    /// It goes to another instance at once.
    Fast,
    /// The application sees the failure; the instance leaves for a time.
    Once,
}

/// One number for both kinds of failure, or one for each.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Consecutive {
    /// For both.
    Both(#[schemars(range(min = 1, max = 1_000_000))] u32),
    /// For each.
    Each(ConsecutiveEach),
}

section! {
    /// What happens when an instance fails.
    pub struct Failover {
        /// What becomes of an attempt that failed before any byte of the response.
        mode: FailoverMode = FailoverMode::default(),
        /// Attempts for one request or connection, the first included; each on another instance.
        #[schemars(range(min = 1, max = 20))]
        attempts: u8 = Model::default().attempts,
        /// Request bodies up to this size are kept for another attempt; 0B to 64MiB.
        replay: Size = Size(Model::default().replay),
        /// Whether instances that fail leave the set for a time.
        ejection: bool = Model::default().ejection,
        /// How many failures in a row eject an instance.
        consecutive_failures: Consecutive,
        /// The first exile; each that follows is twice as long.
        base: Duration = Duration(Model::default().base),
        /// The longest exile.
        max: Duration = Duration(Model::default().max),
        /// Of a tier; one of two may always go.
        max_ejected: Percent = Percent(Model::default().max_ejected),
    }

    /// How many failures in a row eject an instance.
    pub struct ConsecutiveEach {
        /// Connections that didn't come about.
        #[schemars(range(min = 1, max = 1_000_000))]
        connect: u32 = Model::default().consecutive.connect,
        /// Responses that were broken off, timed out or of status 5xx.
        #[schemars(range(min = 1, max = 1_000_000))]
        responses: u32 = Model::default().consecutive.responses,
    }
}

impl Copy for ConsecutiveEach {}

values! { FailoverMode }
same! { FailoverMode = FailoverMode { Fast Once } }

/// What becomes of live connections to an instance that was removed or ejected.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OnRemoval {
    /// In one line.
    Line(Removal),
    /// As a mapping.
    Drain(Drain),
}

/// Reset after a time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// How long they may go on; then they are reset.
    #[schemars(required)]
    pub drain: Option<Duration>,
}

values! { OnRemoval }

impl Consecutive {
    fn each(self) -> ConsecutiveEach {
        match self {
            Self::Both(count) => ConsecutiveEach { connect: Some(count), responses: Some(count) },
            Self::Each(each) => each,
        }
    }
}

impl Over for Consecutive {
    fn over(&self, defaults: &Self) -> Self {
        Self::Each(self.each().over(&defaults.each()))
    }
}

impl Failover {
    pub fn model(&self) -> Model {
        let fallback = Model::default();
        let counts = self.consecutive_failures.map(Consecutive::each).unwrap_or_default();
        Model {
            mode: self.mode.unwrap_or_default().into(),
            attempts: self.attempts.unwrap_or(fallback.attempts),
            replay: self.replay.map_or(fallback.replay, |size| size.0),
            ejection: self.ejection.unwrap_or(fallback.ejection),
            consecutive: Counts {
                connect: counts.connect.unwrap_or(fallback.consecutive.connect),
                responses: counts.responses.unwrap_or(fallback.consecutive.responses),
            },
            base: self.base.map_or(fallback.base, |base| base.0),
            max: self.max.map_or(fallback.max, |max| max.0),
            max_ejected: self.max_ejected.map_or(fallback.max_ejected, |percent| percent.0),
        }
    }
}

impl OnRemoval {
    pub fn model(self) -> model::OnRemoval {
        match self {
            Self::Line(line) => line.0,
            Self::Drain(Drain { drain }) => drain
                .map_or_else(model::OnRemoval::default, |after| model::OnRemoval::Drain(after.0)),
        }
    }
}
