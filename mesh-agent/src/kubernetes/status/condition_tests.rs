use std::sync::Arc;

use super::*;
use crate::kubernetes::{Key, policy::Kind};

fn object(kind: Kind, status: Value) -> Arc<Object> {
    Arc::new(Object {
        kind,
        key: Key::new("x", "a"),
        uid: "u".into(),
        generation: 3,
        created: "2026-01-01T00:00:00Z".into(),
        version: "7".into(),
        spec: Value::Null,
        status,
    })
}

fn done() -> Ruling {
    Ruling::yes("Programmed", "in force")
}

fn policy(accepted: Ruling, status: Value) -> Option<Value> {
    let object = object(Kind::MeshPolicy, status);
    let outcome = Outcome::Policy(Standing { accepted, services: Vec::new() });
    let verdict = Verdict { object: Arc::clone(&object), outcome };
    wanted(&verdict, &object, &done(), "2026-02-02T00:00:00Z")
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array().unwrap();
    all.iter().find(|one| one["type"] == kind).unwrap()
}

#[test]
fn a_policy_is_told_once() {
    let first = policy(Ruling::yes("Accepted", "fine"), Value::Null).unwrap();
    let accepted = condition(&first, "Accepted");
    assert_eq!(
        (&accepted["status"], &accepted["reason"], &accepted["observedGeneration"]),
        (&json!("True"), &json!("Accepted"), &json!(3)),
    );
    assert_eq!(condition(&first, "Programmed")["status"], "True");
    assert_eq!(policy(Ruling::yes("Accepted", "fine"), first), None);
}

#[test]
fn what_changes_gets_a_new_time_and_the_rest_keeps_its_own() {
    let old = json!({ "conditions": [
        { "type": "Accepted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" },
        { "type": "Programmed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z" },
    ] });
    let same = policy(Ruling::yes("Accepted", "fine"), old.clone()).unwrap();
    assert_eq!(condition(&same, "Accepted")["lastTransitionTime"], "2026-01-01T00:00:00Z");
    assert_eq!(condition(&same, "Programmed")["lastTransitionTime"], "2026-01-01T00:00:01Z");
    let worse = policy(Ruling::no("Invalid", "because"), old).unwrap();
    for kind in ["Accepted", "Programmed"] {
        let one = condition(&worse, kind);
        assert_eq!(
            (&one["status"], &one["lastTransitionTime"]),
            (&json!("False"), &json!("2026-02-02T00:00:00Z"))
        );
    }
    assert_eq!(condition(&worse, "Accepted")["message"], "because");
}

#[test]
fn other_controllers_parents_stay() {
    let theirs = json!({ "parentRef": { "name": "gateway" }, "controllerName": "example.org/it", "conditions": [] });
    let gone =
        json!({ "parentRef": { "name": "old" }, "controllerName": CONTROLLER, "conditions": [] });
    let object = object(Kind::HttpRoute, json!({ "parents": [gone, theirs] }));
    let ours = Parent {
        reference: json!({ "kind": "Service", "name": "a" }),
        accepted: Ruling::yes("Accepted", ""),
        resolved_refs: Ruling::no("BackendNotFound", "b"),
    };
    let told = |parents: Vec<Parent>, object: &Arc<Object>| {
        let verdict = Verdict { object: Arc::clone(object), outcome: Outcome::Route(parents) };
        wanted(&verdict, object, &done(), "2026-02-02T00:00:00Z")
    };
    let status = told(vec![ours.clone()], &object).unwrap();
    let parents = status["parents"].as_array().unwrap();
    assert_eq!((parents.len(), &parents[0]), (2, &theirs));
    assert_eq!(parents[1]["parentRef"]["name"], "a");
    assert_eq!(condition(&parents[1], "ResolvedRefs")["reason"], "BackendNotFound");
    let object = self::object(Kind::HttpRoute, status);
    assert_eq!(told(vec![ours], &object), None);
    // Without a parent that is ours, ours go; where there were none, nothing is written.
    let left = told(Vec::new(), &object).unwrap();
    assert_eq!(left, json!({ "parents": [theirs] }));
    let object = self::object(Kind::HttpRoute, left);
    assert_eq!(told(Vec::new(), &object), None);
    assert_eq!(told(Vec::new(), &self::object(Kind::HttpRoute, Value::Null)), None);
}

#[test]
fn entries_keep_their_places() {
    let entry = |name: &str, controller: &str| json!({ "parentRef": { "name": name }, "controllerName": controller, "conditions": [] });
    let (one, theirs, other) =
        (entry("one", CONTROLLER), entry("gateway", "example.org/it"), entry("two", CONTROLLER));
    let before = vec![one.clone(), theirs.clone()];
    let all = in_place(Some(&before), vec![other.clone(), one.clone()]);
    assert_eq!(all, [one, theirs.clone(), other.clone()]);
    assert_eq!(in_place(Some(&before), vec![other.clone()]), [theirs, other.clone()]);
    assert_eq!(in_place(None, vec![other.clone()]), [other]);
}

#[test]
fn long_messages_are_cut_between_characters() {
    assert_eq!(shortened("abcdef", 6), "abcdef");
    assert_eq!(shortened("abcdefg", 6), "abc…");
    assert_eq!(shortened("äöüß", 7), "äö…");
    assert!((0..9).all(|longest| shortened("äöüß", longest).len() <= longest.max(3)));
}
