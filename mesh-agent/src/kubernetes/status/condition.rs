//! What a status has to say, beside what it says already.

use serde_json::{Map, Value, json};

use super::CONTROLLER;
use crate::kubernetes::policy::{Object, Outcome, Parent, Ruling, Standing, Verdict};

/// The `status` to put in place of what stands; `None` where that says the
/// same. `now` is RFC 3339; `programmed` whether this agent carries it out.
pub fn wanted(verdict: &Verdict, object: &Object, programmed: &Ruling, now: &str) -> Option<Value> {
    // Of the spec that was judged, not of a newer one.
    let generation = verdict.object.generation;
    let status = match &verdict.outcome {
        Outcome::Policy(Standing { accepted, .. }) => {
            let before = &object.status["conditions"];
            let conditions = conditions(
                &[("Accepted", accepted), ("Programmed", &self::programmed(accepted, programmed))],
                before,
                generation,
                now,
            );
            json!({ "conditions": conditions })
        }
        Outcome::Route(parents) => {
            let before = object.status["parents"].as_array();
            let ours = parents.iter().map(|one| parent(one, before, generation, now));
            let all = in_place(before, ours.collect());
            if all.is_empty() && before.is_none_or(Vec::is_empty) {
                return None;
            }
            json!({ "parents": all })
        }
    };
    (!says(&object.status, &status)).then_some(status)
}

/// What isn't accepted isn't carried out either.
fn programmed(accepted: &Ruling, programmed: &Ruling) -> Ruling {
    match accepted.holds {
        true => programmed.clone(),
        false => Ruling::no("Invalid", "it is not accepted, or not by all of its targets"),
    }
}

/// Entries with ours among them where they were: two controllers that each put
/// their own last would write for ever.
fn in_place(before: Option<&Vec<Value>>, mut ours: Vec<Value>) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in before.into_iter().flatten() {
        if !is_ours(entry) {
            all.push(entry.clone());
            continue;
        }
        let same = |one: &Value| one["parentRef"] == entry["parentRef"];
        all.extend(ours.iter().position(same).map(|index| ours.remove(index)));
    }
    all.extend(ours);
    all
}

fn is_ours(entry: &Value) -> bool {
    entry["controllerName"] == CONTROLLER
}

fn parent(one: &Parent, before: Option<&Vec<Value>>, generation: i64, now: &str) -> Value {
    let same = |entry: &&Value| is_ours(entry) && entry["parentRef"] == one.reference;
    let before = before.into_iter().flatten().find(same);
    let before = before.map_or(&Value::Null, |entry| &entry["conditions"]);
    json!({
        "parentRef": one.reference,
        "controllerName": CONTROLLER,
        "conditions": conditions(
            &[("Accepted", &one.accepted), ("ResolvedRefs", &one.resolved_refs)],
            before,
            generation,
            now,
        ),
    })
}

/// A condition keeps its time while its status stays.
fn conditions(
    rulings: &[(&str, &Ruling)],
    before: &Value,
    generation: i64,
    now: &str,
) -> Vec<Value> {
    let mut all = Vec::new();
    for (kind, ruling) in rulings {
        let status = if ruling.holds { "True" } else { "False" };
        let same = |one: &&Value| one["type"] == *kind && one["status"] == status;
        let known = before.as_array().into_iter().flatten().find(same);
        let since = known.and_then(|one| one["lastTransitionTime"].as_str()).unwrap_or(now);
        all.push(json!({
            "type": kind,
            "status": status,
            "reason": ruling.reason,
            "message": shortened(&ruling.message, LONGEST),
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }));
    }
    all
}

/// As much as an API server takes.
const LONGEST: usize = 4096;

/// `longest` bytes of UTF-8 at most, with the sign that says that there was more.
pub(super) fn shortened(message: &str, longest: usize) -> String {
    if message.len() <= longest {
        return message.to_owned();
    }
    const MORE: &str = "…";
    let room = longest.saturating_sub(MORE.len());
    let end = (0..=room).rev().find(|&at| message.is_char_boundary(at));
    format!("{}{MORE}", &message[..end.unwrap_or(0)])
}

/// Whether `status` holds all that is wanted; other fields are others'.
fn says(status: &Value, wanted: &Value) -> bool {
    let nothing = Map::new();
    let status = status.as_object().unwrap_or(&nothing);
    let wanted = wanted.as_object().unwrap_or(&nothing);
    wanted.iter().all(|(key, value)| status.get(key) == Some(value))
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
