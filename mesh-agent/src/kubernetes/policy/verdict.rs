//! What became of a resource, in the words of Gateway API's conditions.

use std::sync::Arc;

use serde_json::Value;

use super::object::Object;
use crate::model::ServiceName;

/// One condition's status, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub holds: bool,
    /// A name of Gateway API's where it has one.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What the status of a resource has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub object: Arc<Object>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Policy(Standing),
    /// One for each parent that is ours; a route may have others.
    Route(Vec<Parent>),
}

/// What a policy is to its targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub accepted: Ruling,
    /// Those that it holds for, all or a port of each; not of a default.
    pub services: Vec<ServiceName>,
}

/// What a route is to one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// `parentRef`, as the route has it.
    pub reference: Value,
    pub accepted: Ruling,
    pub resolved_refs: Ruling,
}

impl Ruling {
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}
