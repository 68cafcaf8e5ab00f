//! Events: `kubectl describe` shows beside a resource why it is refused.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

use super::condition::shortened;
use crate::kubernetes::policy::{Object, Outcome, Ruling, Verdict};

/// As much as an API server takes of an Event's message.
const LONGEST: usize = 1024;
/// Of the object's name, which the Event's begins with.
const LONGEST_NAME: usize = 200;

/// One for all that is refused of a resource; `None` where nothing is.
pub fn event(verdict: &Verdict, object: &Object, now: &str) -> Option<Value> {
    let refused = refused(&verdict.outcome);
    let reason = refused.first()?.reason;
    let mut messages: Vec<&str> = refused.iter().map(|ruling| ruling.message.as_str()).collect();
    messages.dedup();
    let message = messages.join("\n");
    // Another leader, which says the same of the same, gives the same name: the
    // API server keeps one of them.
    let mut hasher = DefaultHasher::new();
    (&object.uid, object.generation, reason, &message).hash(&mut hasher);
    let name: String = object.key.name.chars().take(LONGEST_NAME).collect();
    let resource = object.kind.resource();
    Some(json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:016x}", name.trim_end_matches(['-', '.']), hasher.finish()),
            "namespace": object.key.namespace,
        },
        "involvedObject": {
            "apiVersion": format!("{}/{}", resource.group, resource.version),
            "kind": object.kind.name(),
            "namespace": object.key.namespace,
            "name": object.key.name,
            "uid": object.uid,
        },
        "type": "Warning",
        "reason": reason,
        "message": shortened(&message, LONGEST),
        "source": { "component": "mesh-agent" },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }))
}

fn refused(outcome: &Outcome) -> Vec<&Ruling> {
    let all: Vec<&Ruling> = match outcome {
        Outcome::Policy(standing) => vec![&standing.accepted],
        Outcome::Route(parents) => {
            parents.iter().flat_map(|one| [&one.accepted, &one.resolved_refs]).collect()
        }
    };
    all.into_iter().filter(|ruling| !ruling.holds).collect()
}
