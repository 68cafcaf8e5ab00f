//! The JSON Schema of the file: what editors complete from, what the file's
//! shape is checked against, and what the reference is made of.

use std::sync::LazyLock;

use serde_json::Value;

use super::raw::File;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(File).to_value();
    without_null(&mut schema);
    schema
});

/// JSON Schema (2020-12) of the configuration file.
pub fn schema() -> Value {
    SCHEMA.clone()
}

pub(super) fn shared() -> &'static Value {
    &SCHEMA
}

/// What a type of the file is called in `$defs`.
pub(super) fn definition(name: &str) -> &'static Value {
    let found = SCHEMA["$defs"].get(name);
    found.expect("schemars defines each type of the file by its name")
}

/// The schema that a `$ref` stands for; any other is itself.
pub(super) fn resolve(schema: &Value) -> &Value {
    let Some(reference) = schema["$ref"].as_str() else { return schema };
    (reference.strip_prefix('#').and_then(|pointer| SCHEMA.pointer(pointer)))
        .expect("schemars refers only to what it defines")
}

/// What `Option` adds: a key without a value isn't allowed in this file, since
/// a forgotten value would be taken for the default.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(without_null),
        Value::Object(object) => {
            if object.get("default") == Some(&Value::Null) {
                object.shift_remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| branch["type"] != "null");
                if let [Value::Object(only)] = branches.as_slice() {
                    let only = only.clone();
                    object.shift_remove("anyOf");
                    object.extend(only);
                }
            }
            object.values_mut().for_each(without_null);
        }
        _ => {}
    }
}
