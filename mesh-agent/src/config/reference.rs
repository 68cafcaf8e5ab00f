//! docs/configuration.md, made of the schema.

use std::{collections::HashMap, fmt::Write as _};

use serde_json::Value;

use super::{schema, shape};

/// A complete file with comments; a test parses it.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// The reference of the configuration file in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Generated from the schema in mesh-agent/src/config; edit there. -->\n\n\
         One YAML file. `mesh-agent check FILE` reports everything that is wrong with it, by line \
         and column; `mesh-agent schema` prints the JSON Schema for editors. Unknown keys, keys \
         without a value and repeated keys are errors. Durations are written `250ms`, `5s`, `1m` \
         or `3h`, sizes `64KiB` or `10MiB`. Keys in bold must be there.\n\n\
         ## Example\n\n```yaml\n",
    );
    page.push_str(EXAMPLE);
    page.push_str("```\n");
    section(&mut page, "", schema::shared(), &mut HashMap::new());
    page
}

/// By its name in the schema: the path that a mapping was shown at.
type Shown = HashMap<String, String>;

/// A table for this mapping, then one for each mapping in it.
fn section(page: &mut String, path: &str, schema: &Value, shown: &mut Shown) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let title = if path.is_empty() { "The file".into() } else { format!("`{path}`") };
    let text = schema["description"].as_str().unwrap_or_default();
    let mut rows = String::new();
    for (key, property) in properties {
        row(&mut rows, schema, key, property);
    }
    let head = "| key | value | default | meaning |\n|---|---|---|---|\n";
    write!(page, "\n## {title}\n\n{text}\n\n{head}{rows}").expect(INFALLIBLE);
    for (key, property) in properties {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        mapping(page, &below, property, shown);
    }
}

/// The mappings that this may be, or that the items of its list are.
fn mapping(page: &mut String, path: &str, schema: &Value, shown: &mut Shown) {
    if let Some(name) = schema["$ref"].as_str() {
        if let Some(first) = shown.get(name) {
            write!(page, "\n## `{path}`\n\nAs `{first}`.\n").expect(INFALLIBLE);
            return;
        }
        if schema::resolve(schema)["properties"].is_object() {
            shown.insert(name.to_owned(), path.to_owned());
        }
    }
    let schema = schema::resolve(schema);
    if let Some(branches) = schema["anyOf"].as_array() {
        // One item and a list of them are the same mapping: it is shown once.
        let lists = branches.iter().filter(|branch| schema::resolve(branch)["type"] == "array");
        let items: Vec<&Value> = lists.map(|list| &list["items"]).collect();
        for branch in branches.iter().filter(|branch| !items.contains(branch)) {
            mapping(page, path, branch, shown);
        }
    } else if schema["type"] == "array" {
        mapping(page, &format!("{path}[]"), &schema["items"], shown);
    } else {
        section(page, path, schema, shown);
    }
}

const INFALLIBLE: &str = "a String takes all that is written to it";

fn row(rows: &mut String, parent: &Value, key: &str, property: &Value) {
    let resolved = schema::resolve(property);
    let required = parent["required"].as_array().is_some_and(|all| all.iter().any(|k| k == key));
    let key = if required { format!("**{key}**") } else { key.to_owned() };
    let value = value(resolved).replace('|', "\\|");
    let default = match &property["default"] {
        Value::Null | Value::Object(_) => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    };
    let mut meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ");
    for (name, text) in choices(resolved) {
        write!(meaning, "<br>`{name}`: {text}").expect(INFALLIBLE);
    }
    writeln!(rows, "| {key} | {value} | {default} | {meaning} |").expect(INFALLIBLE);
}

/// The names of an enum, or of one that this may be, each with its meaning.
fn choices(schema: &Value) -> Vec<(&str, &str)> {
    let schema = schema::resolve(schema);
    let other = schema["anyOf"].as_array().into_iter().flatten().flat_map(choices);
    let own = schema["oneOf"].as_array().into_iter().flatten();
    own.filter_map(|b| b["const"].as_str().zip(b["description"].as_str())).chain(other).collect()
}

fn value(schema: &Value) -> String {
    match schema["type"].as_str() {
        None if schema["anyOf"].is_array() => {
            let branches = schema["anyOf"].as_array().into_iter().flatten();
            let mut values: Vec<String> =
                branches.map(|branch| value(schema::resolve(branch))).collect();
            values.dedup();
            values.join(", or ")
        }
        Some("object") if schema["properties"].is_object() => "mapping, see below".into(),
        Some("array") if schema::resolve(&schema["items"])["properties"].is_object() => {
            "list, see below".into()
        }
        _ => shape::expected(schema),
    }
}
