//! From the file's JSON Schema to the structural schema that Kubernetes wants
//! of a CRD.
//!
//! A structural schema has a type everywhere, no references, and no types in
//! the branches of an `anyOf`. Where the file takes one of several forms (`off`
//! or a mapping), there is no type: each form keeps the keywords that concern
//! it alone, and what slips through is found by the policy's own checks, which
//! every agent makes.

use serde_json::{Map, Value, json};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const LIST_TYPE: &str = "x-kubernetes-list-type";

/// Keywords that mean the same in both.
const KEPT: [&str; 11] = [
    "type",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "minLength",
    "maxLength",
];

/// The structural schema of `schema`, whose references point into `definitions`.
pub fn structural(schema: &Value, definitions: &Value) -> Value {
    Value::Object(of(schema, definitions))
}

fn of(schema: &Value, definitions: &Value) -> Map<String, Value> {
    let target = resolve(schema, definitions);
    let mut made = Map::new();
    if let Some(text) = description(schema, target) {
        made.insert("description".into(), text.into());
    }
    let mut forms = Vec::new();
    collect(target, definitions, &mut forms);
    match forms.as_slice() {
        [form] => made.extend(one(form, definitions)),
        forms => {
            for form in forms {
                for (key, value) in one(form, definitions) {
                    // Names and patterns of text don't concern the other forms.
                    if key != "type" && key != LIST_TYPE && !made.contains_key(&key) {
                        made.insert(key, value);
                    }
                }
            }
            if let Some(Value::Array(names)) = made.remove("enum") {
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                made.insert("pattern".into(), format!("^({})$", names.join("|")).into());
            }
            made.insert(PRESERVE.into(), true.into());
        }
    }
    made
}

/// All the forms that a value may take; several of text become one.
fn collect<'a>(schema: &'a Value, definitions: &'a Value, forms: &mut Vec<&'a Value>) {
    let schema = resolve(schema, definitions);
    match schema["anyOf"].as_array() {
        Some(branches) => branches.iter().for_each(|one| collect(one, definitions, forms)),
        None if forms.contains(&schema) => {}
        None => forms.push(schema),
    }
}

fn one(schema: &Value, definitions: &Value) -> Map<String, Value> {
    let mut made = Map::new();
    for key in KEPT {
        if let Some(value) = schema.get(key) {
            made.insert(key.into(), value.clone());
        }
    }
    if let Some(names) = names(schema) {
        made.insert("type".into(), "string".into());
        made.insert("enum".into(), names);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let properties =
            properties.iter().map(|(key, inner)| (key.clone(), of(inner, definitions).into()));
        made.insert("properties".into(), Value::Object(properties.collect()));
    }
    if schema["additionalProperties"].is_object() {
        let inner = of(&schema["additionalProperties"], definitions);
        made.insert("additionalProperties".into(), inner.into());
    }
    if schema["items"].is_object() {
        made.insert("items".into(), of(&schema["items"], definitions).into());
        if schema["type"] == "array" {
            made.insert(LIST_TYPE.into(), "atomic".into());
        }
    }
    made
}

/// The names of an enum, however it is written.
fn names(schema: &Value) -> Option<Value> {
    if schema["enum"].is_array() {
        return Some(schema["enum"].clone());
    }
    let branches = schema["oneOf"].as_array()?;
    let names: Option<Vec<_>> = branches.iter().map(|one| one["const"].as_str()).collect();
    Some(json!(names?))
}

/// With the default in words: one that the API server writes into the resource
/// would hide what is merged under it.
fn description(schema: &Value, target: &Value) -> Option<String> {
    let text = schema["description"].as_str().or(target["description"].as_str());
    let default = match &schema["default"] {
        Value::Null | Value::Object(_) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    match (text, default) {
        (Some(text), Some(default)) => Some(format!("{text} Default: `{default}`.")),
        (None, Some(default)) => Some(format!("Default: `{default}`.")),
        (text, None) => text.map(str::to_owned),
    }
}

fn resolve<'a>(schema: &'a Value, definitions: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        Some(name) => &definitions[name],
        None => schema,
    }
}
