//! Patches: JSON merge patch (RFC 7396), JSON patch (RFC 6902), the strategic
//! merge of kubectl, and server-side apply with one manager.

use serde_json::{Map, Value};

use super::failure::Failure;

/// Lists of objects that are merged by a key; all others are replaced whole.
const KEYS: [(&str, &str); 6] = [
    ("ports", "port"),
    ("ports", "containerPort"),
    ("containers", "name"),
    ("env", "name"),
    ("conditions", "type"),
    ("ownerReferences", "uid"),
];

/// RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = object(target);
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// [`merge`] that merges some lists by key, and obeys kubectl's directives.
pub fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = object(target);
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        match (key_of(key, value), value) {
            (_, Value::Null) => {
                target.shift_remove(key);
            }
            (Some(by), Value::Array(items)) => {
                let list = target.entry(key).or_insert(Value::Null);
                merge_list(list, items, by);
            }
            _ => strategic(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

fn merge_list(target: &mut Value, items: &[Value], by: &str) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(list) = target else { return };
    for item in items {
        let place = list.iter().position(|one| one[by] == item[by]);
        match (place, item["$patch"] == "delete") {
            (Some(place), true) => {
                list.remove(place);
            }
            (Some(place), false) => strategic(&mut list[place], item),
            (None, true) => {}
            (None, false) => list.push(item.clone()),
        }
    }
}

/// By which key the list `name` is merged, if by any.
fn key_of(name: &str, list: &Value) -> Option<&'static str> {
    let has = |key: &str| list[0].get(key).is_some();
    KEYS.iter().find(|(list, key)| *list == name && has(key)).map(|(_, key)| *key)
}

/// Server-side apply: what this manager applied `before` and doesn't now, goes.
pub fn apply(target: &mut Value, before: &Value, now: &Value) {
    remove_left_out(target, before, now);
    strategic(target, now);
}

fn remove_left_out(target: &mut Value, before: &Value, now: &Value) {
    let (Value::Object(target), Value::Object(before)) = (target, before) else { return };
    for (key, old) in before {
        let Some(value) = target.get_mut(key) else { continue };
        let Some(new) = now.get(key) else {
            target.shift_remove(key);
            continue;
        };
        match (key_of(key, old), value) {
            (Some(by), Value::Array(list)) => {
                let among = |items: &Value, item: &Value| {
                    items
                        .as_array()
                        .is_some_and(|items| items.iter().any(|one| one[by] == item[by]))
                };
                list.retain(|item| !among(old, item) || among(new, item));
            }
            (_, value) => remove_left_out(value, old, new),
        }
    }
}

/// RFC 6902.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let steps = patch.as_array().ok_or_else(|| Failure::bad_request("a JSON patch is a list"))?;
    for step in steps {
        let path = step["path"].as_str().unwrap_or_default();
        let done = match step["op"].as_str() {
            Some("add") => put(target, path, &step["value"], true),
            Some("replace") => put(target, path, &step["value"], false),
            Some("remove") => remove(target, path),
            Some("test") => target.pointer(path).filter(|value| **value == step["value"]).map(drop),
            _ => None,
        };
        done.ok_or_else(|| Failure::invalid(format!("the server rejected our request: {step}")))?;
    }
    Ok(())
}

fn put(target: &mut Value, path: &str, value: &Value, new: bool) -> Option<()> {
    let (parent, key) = path.rsplit_once('/')?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(unescape(key), value.clone());
        }
        Value::Array(list) if key == "-" => list.push(value.clone()),
        Value::Array(list) if new => {
            let index = key.parse().ok().filter(|index| *index <= list.len())?;
            list.insert(index, value.clone());
        }
        Value::Array(list) => *list.get_mut(key.parse::<usize>().ok()?)? = value.clone(),
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<()> {
    let (parent, key) = path.rsplit_once('/')?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => map.shift_remove(&unescape(key)).map(drop),
        Value::Array(list) => {
            let index = key.parse().ok().filter(|index| *index < list.len())?;
            list.remove(index);
            Some(())
        }
        _ => None,
    }
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

/// `value` as an object, which it becomes where it isn't one.
pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made one above")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn apply_removes_what_its_manager_left_out() {
        let mut target = json!({"a": 1, "b": {"mine": 1, "other": 2},
            "conditions": [{"type": "X", "status": "True"}, {"type": "Theirs"}]});
        let before = json!({"b": {"mine": 1}, "conditions": [{"type": "X", "status": "True"}]});
        apply(&mut target, &before, &json!({"b": {"new": 3}, "conditions": [{"type": "Y"}]}));
        let expected = json!({"a": 1, "b": {"other": 2, "new": 3},
            "conditions": [{"type": "Theirs"}, {"type": "Y"}]});
        assert_eq!(target, expected);
    }

    #[test]
    fn patches_of_every_kind() {
        let start =
            json!({"metadata": {"labels": {"a/b": "1"}}, "ports": [{"port": 80, "name": "x"}]});
        let mut target = start.clone();
        merge(&mut target, &json!({"metadata": {"labels": {"a/b": null, "c": "2"}}}));
        assert_eq!(target["metadata"]["labels"], json!({"c": "2"}));

        let mut target = start.clone();
        let patch = json!({"$setElementOrder/ports": [], "ports": [{"port": 80, "name": "y"}, {"port": 81}]});
        strategic(&mut target, &patch);
        assert_eq!(target["ports"], json!([{"port": 80, "name": "y"}, {"port": 81}]));

        let mut target = start;
        let patch = json!([
            {"op": "test", "path": "/ports/0/port", "value": 80},
            {"op": "remove", "path": "/metadata/labels/a~1b"},
            {"op": "add", "path": "/ports/-", "value": {"port": 82}},
        ]);
        json_patch(&mut target, &patch).expect("legal");
        assert_eq!(target["metadata"]["labels"], json!({}));
        assert_eq!(target["ports"][1]["port"], 82);
        let missing = json!([{"op": "remove", "path": "/metadata/labels/none"}]);
        assert!(json_patch(&mut target, &missing).is_err());
    }
}
