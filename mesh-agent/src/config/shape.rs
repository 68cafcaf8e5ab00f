//! Checks the tree against the JSON Schema and says what is wrong in words.
//!
//! What is wrong is taken out of the tree, so that what is left can be decoded
//! and checked for what a schema can't say: all problems come out at once.
//! (Validators of JSON Schema report a failed `anyOf` as "doesn't match any",
//! which helps nobody; the tests hold this check to the verdicts of one.)

use serde_json::Value;

use super::{
    node::{Kind, Node, Path, Position, Step},
    problem::{Problems, excerpt},
    schema, suggest, text,
};

/// Reports what is wrong in `file`, and gives what isn't.
pub fn check(file: Node, problems: &mut Problems) -> Node {
    check_as(schema::shared(), file, problems)
}

/// The same for a part of a file, by its part of the schema.
pub fn check_as(schema: &Value, file: Node, problems: &mut Problems) -> Node {
    let at = file.at;
    let mut check = Check { problems, path: Path::default() };
    let checked = check.node(schema, file);
    checked.unwrap_or_else(|| Node { at, kind: Kind::Map(Vec::new()) })
}

struct Check<'a> {
    problems: &'a mut Problems,
    path: Path,
}

impl Check<'_> {
    fn report(&mut self, at: Position, message: String) {
        self.problems.push(at, &self.path, message);
    }

    fn node(&mut self, schema: &Value, node: Node) -> Option<Node> {
        let schema = schema::resolve(schema);
        if let Some(branches) = schema["anyOf"].as_array() {
            return match branches.iter().find(|branch| fits(branch, &node)) {
                Some(branch) => self.node(branch, node),
                None => self.wrong_type(schema, &node),
            };
        }
        if let Some(names) = names(schema) {
            return self.name(schema, &names, node);
        }
        if !fits(schema, &node) {
            return self.wrong_type(schema, &node);
        }
        let at = node.at;
        let kind = match node.kind {
            Kind::Map(entries) => Kind::Map(self.map(schema, at, entries)),
            Kind::List(items) => Kind::List(self.list(schema, at, items)),
            // No bound is so large that a float can't say on which side it is.
            Kind::Integer(value) if !in_range(schema, value as f64) => {
                return self.out_of_range(schema, at, &value);
            }
            Kind::Float(value) if !in_range(schema, value) => {
                return self.out_of_range(schema, at, &value);
            }
            Kind::Text(value) => {
                let format = schema["format"].as_str().unwrap_or_default();
                if let Some(problem) = text::problem(format, &value) {
                    self.report(at, format!("`{}` {problem}", excerpt(&value)));
                    return None;
                }
                Kind::Text(value)
            }
            other => other,
        };
        Some(Node { at, kind })
    }

    fn out_of_range(
        &mut self,
        schema: &Value,
        at: Position,
        value: &dyn std::fmt::Display,
    ) -> Option<Node> {
        self.report(at, format!("`{value}` is out of range: must be {}", expected(schema)));
        None
    }

    fn map(
        &mut self,
        schema: &Value,
        at: Position,
        entries: Vec<super::node::Entry>,
    ) -> Vec<super::node::Entry> {
        let known = schema["properties"].as_object();
        let keys: Vec<&str> =
            known.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect();
        for required in
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
        {
            if !entries.iter().any(|entry| entry.key == required) {
                let meaning = schema::resolve(&schema["properties"][required]);
                self.report(
                    at,
                    format!("`{required}` is missing: it must be {}", expected(meaning)),
                );
            }
        }
        if let Some(most) = schema["maxProperties"].as_u64()
            && entries.len() as u64 > most
        {
            let message = format!("has {} keys: at most {most} are allowed", entries.len());
            self.report(at, message);
        }
        let mut kept = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let length = self.path.push(Step::Key(&entry.key));
            let free = || Some(&schema["additionalProperties"]).filter(|free| free.is_object());
            match known.and_then(|known| known.get(&entry.key)).or_else(free) {
                Some(inner) => {
                    // Keys that the operator chooses have a form too.
                    let format = schema["propertyNames"]["format"].as_str().unwrap_or_default();
                    if let Some(problem) = text::problem(format, &entry.key) {
                        let message = format!("the key `{}` {problem}", excerpt(&entry.key));
                        self.report(entry.at, message);
                    } else if let Some(node) = self.node(inner, entry.node) {
                        entry.node = node;
                        kept.push(entry);
                    }
                }
                None => {
                    let full = self.problems.is_full();
                    let message =
                        if full { String::new() } else { unknown_key(&entry.key, &keys, schema) };
                    self.report(entry.at, message);
                }
            }
            self.path.cut(length);
        }
        kept
    }

    fn list(
        &mut self,
        schema: &Value,
        at: Position,
        items: Vec<super::node::Item>,
    ) -> Vec<super::node::Item> {
        let count = items.len() as u64;
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        if count < least {
            self.report(at, format!("must not be empty: {}", expected(schema)));
        }
        if count > most {
            self.report(at, format!("has {count} items: at most {most} are allowed"));
        }
        let mut kept = Vec::with_capacity(items.len());
        for mut item in items {
            let length = self.path.push(Step::Index(item.index));
            if let Some(node) = self.node(&schema["items"], item.node) {
                item.node = node;
                kept.push(item);
            }
            self.path.cut(length);
        }
        kept
    }

    fn name(&mut self, schema: &Value, names: &[&str], node: Node) -> Option<Node> {
        let Kind::Text(typed) = &node.kind else { return self.wrong_type(schema, &node) };
        if names.contains(&typed.as_str()) {
            return Some(node);
        }
        let meant = suggest::closest(typed, names);
        let meant = meant.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
        let message =
            format!("`{}` is not known here; {meant}valid: {}", excerpt(typed), names.join(", "));
        self.report(node.at, message);
        None
    }

    fn wrong_type(&mut self, schema: &Value, node: &Node) -> Option<Node> {
        let expected = expected(schema);
        let message = match &node.kind {
            Kind::Null => format!("has no value: must be {expected}; or leave the key out"),
            Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) if quoted(schema, node) => {
                let found = found(node);
                format!("must be {expected}; found {found}: if that is meant, put it in quotes")
            }
            _ => format!("must be {expected}; found {}", found(node)),
        };
        self.report(node.at, message);
        None
    }
}

fn unknown_key(typed: &str, keys: &[&str], schema: &Value) -> String {
    let shown = excerpt(typed);
    let mut message = format!("unknown key `{shown}`; ");
    if typed == "<<" {
        message.push_str(
            "merge keys are not supported: use `defaults`, or an alias for a whole value; ",
        );
    } else if let Some(meant) = suggest::closest(typed, keys) {
        message.push_str(&format!("did you mean `{meant}`? "));
    } else if let Some(parent) = keys.iter().find(|key| {
        let inner = schema::resolve(&schema["properties"][**key]);
        !inner["properties"][typed].is_null()
    }) {
        message.push_str(&format!("it belongs under `{parent}`; "));
    }
    message.push_str(&format!("valid keys: {}", keys.join(", ")));
    message
}

/// The names of an enum.
pub(super) fn names(schema: &Value) -> Option<Vec<&str>> {
    if let Some(names) = schema["enum"].as_array() {
        return names.iter().map(Value::as_str).collect();
    }
    let branches = schema["oneOf"].as_array()?;
    branches.iter().map(|branch| branch["const"].as_str()).collect()
}

fn in_range(schema: &Value, value: f64) -> bool {
    let bound = |key| schema[key].as_f64();
    bound("minimum").is_none_or(|least| value >= least)
        && bound("maximum").is_none_or(|most| value <= most)
}

/// Whether the value would be right as text.
fn quoted(schema: &Value, node: &Node) -> bool {
    let schema = schema::resolve(schema);
    if let Some(branches) = schema["anyOf"].as_array() {
        return branches.iter().any(|branch| quoted(branch, node));
    }
    let text = match &node.kind {
        Kind::Bool(value) => value.to_string(),
        Kind::Integer(value) => value.to_string(),
        Kind::Float(value) => value.to_string(),
        _ => return false,
    };
    let format = schema["format"].as_str().unwrap_or_default();
    names(schema).is_none() && schema["type"] == "string" && text::problem(format, &text).is_none()
}

/// Whether this schema, or a branch of it, takes values of this type.
fn takes(schema: &Value, kind: &str) -> bool {
    let schema = schema::resolve(schema);
    if let Some(branches) = schema["anyOf"].as_array() {
        return branches.iter().any(|branch| takes(branch, kind));
    }
    if names(schema).is_some() { kind == "string" } else { schema["type"] == kind }
}

fn fits(schema: &Value, node: &Node) -> bool {
    let whole = matches!(node.kind, Kind::Integer(_));
    whole && takes(schema, "number")
        || takes(
            schema,
            match node.kind {
                Kind::Null => "null",
                Kind::Bool(_) => "boolean",
                Kind::Integer(_) => "integer",
                Kind::Float(_) => "number",
                Kind::Text(_) => "string",
                Kind::List(_) => "array",
                Kind::Map(_) => "object",
            },
        )
}

/// What a value must be, in words.
pub(super) fn expected(schema: &Value) -> String {
    let schema = schema::resolve(schema);
    if let Some(branches) = schema["anyOf"].as_array() {
        return branches.iter().map(expected).collect::<Vec<_>>().join(", or ");
    }
    match names(schema).as_deref() {
        Some([name]) => return format!("`{name}`"),
        Some(names) => return format!("one of {}", names.join(", ")),
        None => {}
    }
    match schema["type"].as_str() {
        Some("boolean") => "true or false".into(),
        Some("integer") => {
            format!("a whole number from {} to {}", schema["minimum"], schema["maximum"])
        }
        Some("number") => format!("a number from {} to {}", schema["minimum"], schema["maximum"]),
        Some("array") => match schema::resolve(&schema["items"])["properties"].as_object() {
            Some(keys) => {
                let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
                format!("a list of items with the keys {}", keys.join(", "))
            }
            None => format!("a list, each item {}", expected(&schema["items"])),
        },
        Some("object") => {
            let keys = schema["properties"].as_object();
            let keys: Vec<&str> =
                keys.into_iter().flat_map(|keys| keys.keys().map(String::as_str)).collect();
            match keys.as_slice() {
                [] if schema["additionalProperties"].is_object() => {
                    let key = expected(&schema["propertyNames"]);
                    format!(
                        "a mapping; each key {key}, each value {}",
                        expected(&schema["additionalProperties"])
                    )
                }
                [] => "an empty mapping, `{}`".into(),
                _ => format!("a mapping with keys among {}", keys.join(", ")),
            }
        }
        _ => {
            let format = schema["format"].as_str().unwrap_or_default();
            text::expected(format).unwrap_or("text").to_owned()
        }
    }
}

fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "nothing".into(),
        Kind::Bool(value) => format!("`{value}`"),
        Kind::Integer(value) => format!("the number {value}"),
        Kind::Float(value) => format!("the number {value}"),
        Kind::Text(value) => format!("the text `{}`", excerpt(value)),
        Kind::List(_) => "a list".into(),
        Kind::Map(_) => "a mapping".into(),
    }
}
