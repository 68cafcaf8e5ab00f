//! The definition, held to what an API server refuses of one
//! (apiextensions-apiserver: pkg/apiserver/schema/validation.go, and the API's
//! own validation of `JSONSchemaProps`).

use serde_json::{Value, json};

use super::*;

/// The keywords that `JSONSchemaProps` has; others are unknown fields, which
/// `kubectl` refuses.
const KNOWN: [&str; 36] = [
    "description",
    "type",
    "format",
    "title",
    "default",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "multipleOf",
    "enum",
    "maxProperties",
    "minProperties",
    "required",
    "items",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "properties",
    "additionalProperties",
    "externalDocs",
    "example",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// What an API server would refuse of this schema.
fn refused(schema: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    check(schema, "", true, &mut wrong);
    wrong
}

fn check(schema: &Value, path: &str, root: bool, wrong: &mut Vec<String>) {
    let Some(keys) = schema.as_object() else {
        return wrong.push(format!("{path}: must be a mapping"));
    };
    for key in keys.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        wrong.push(format!("{path}: unknown field {key}"));
    }
    let kind = schema["type"].as_str();
    let preserves = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match kind {
        None if !preserves && schema["x-kubernetes-int-or-string"] != true => {
            wrong.push(format!("{path}: type is required"));
        }
        Some(kind)
            if !["string", "number", "integer", "boolean", "array", "object"].contains(&kind) =>
        {
            wrong.push(format!("{path}: unsupported type {kind}"));
        }
        _ => {}
    }
    if root && kind != Some("object") {
        wrong.push(format!("{path}: type must be object at the root"));
    }
    if kind == Some("array") && !schema["items"].is_object() {
        wrong.push(format!("{path}: items is required"));
    }
    if schema["properties"].is_object() && !schema["additionalProperties"].is_null() {
        wrong.push(format!("{path}: additionalProperties and properties are mutually exclusive"));
    }
    if schema["additionalProperties"] == false {
        wrong.push(format!("{path}: additionalProperties must not be false"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && (regex::Regex::new(pattern).is_err() || repeats_too_often(pattern))
    {
        wrong.push(format!("{path}: pattern must be a valid regular expression"));
    }
    if schema["enum"].as_array().is_some_and(Vec::is_empty) {
        wrong.push(format!("{path}: enum must not be empty"));
    }
    lists(schema, path, wrong);
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for branch in schema[junctor].as_array().into_iter().flatten() {
            nested(branch, schema, &format!("{path}.{junctor}"), wrong);
        }
    }
    if schema["not"].is_object() {
        nested(&schema["not"], schema, &format!("{path}.not"), wrong);
    }
    if root && schema["properties"]["metadata"] != json!({ "type": "object" }) {
        wrong.push("metadata: must specify nothing but name and generateName".into());
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        check(inner, &format!("{path}.{key}"), false, wrong);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            check(&schema[key], &format!("{path}[{key}]"), false, wrong);
        }
    }
}

/// RE2, which API servers have, ends at 1,000 times; this crate doesn't.
fn repeats_too_often(pattern: &str) -> bool {
    let counts = regex::Regex::new(r"\{(?:[0-9]+,)?([0-9]+),?\}").unwrap();
    counts.captures_iter(pattern).any(|found| found[1].parse::<u32>().unwrap() > 1000)
}

/// Of lists that are maps: their keys must be there, required and scalar.
fn lists(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    if !schema["x-kubernetes-list-type"].is_null() && schema["type"] != "array" {
        wrong.push(format!("{path}: x-kubernetes-list-type needs the type array"));
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    if (schema["x-kubernetes-list-type"] == "map") != keys.is_some() {
        wrong.push(format!("{path}: a list of type map needs its keys, and no other has them"));
    }
    for key in keys.into_iter().flatten().filter_map(Value::as_str) {
        let items = &schema["items"];
        let required = items["required"].as_array();
        if !required.is_some_and(|all| all.iter().any(|one| one == key)) {
            wrong.push(format!("{path}: the key {key} must be required, or have a default"));
        }
        if !matches!(items["properties"][key]["type"].as_str(), Some("string" | "integer")) {
            wrong.push(format!("{path}: the key {key} must be a scalar"));
        }
    }
}

/// In the branches of a junctor.
fn nested(branch: &Value, parent: &Value, path: &str, wrong: &mut Vec<String>) {
    for key in ["type", "default", "title", "description", "nullable", "additionalProperties"] {
        if !branch[key].is_null() {
            wrong.push(format!("{path}: {key} must be undefined to be structural"));
        }
    }
    for key in branch["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if parent["properties"][key].is_null() {
            wrong.push(format!("{path}: {key} must be specified outside of it too"));
        }
    }
    for inner in branch["properties"].as_object().into_iter().flatten() {
        nested(inner.1, &parent["properties"][inner.0], &format!("{path}.{}", inner.0), wrong);
    }
}

#[test]
fn an_api_server_takes_it() {
    let crd = crd();
    let version = &crd["spec"]["versions"][0];
    assert_eq!(refused(&version["schema"]["openAPIV3Schema"]), Vec::<String>::new());
    assert_eq!(crd["metadata"]["name"], "meshpolicies.mesh.dev");
    let largest = crd.to_string().len();
    // What `kubectl apply` keeps as an annotation.
    assert!(largest < 256 << 10, "{largest}");
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        let kinds = ["integer", "number", "string", "boolean", "date"];
        assert!(kinds.contains(&column["type"].as_str().unwrap()), "{column}");
        assert!(column["jsonPath"].as_str().unwrap().starts_with('.'), "{column}");
    }
    assert_eq!(crd, super::crd());
}

#[test]
fn what_it_would_refuse_is_found() {
    let with = |spec: Value| {
        refused(&json!({
            "type": "object",
            "properties": { "metadata": { "type": "object" }, "spec": spec },
        }))
    };
    assert_eq!(with(json!({ "type": "object" })), Vec::<String>::new());
    for (spec, part) in [
        (json!({}), "type is required"),
        (json!({ "$ref": "#/x", "type": "object" }), "unknown field $ref"),
        (json!({ "type": "string", "const": "a" }), "unknown field const"),
        (json!({ "type": ["string", "null"] }), "type is required"),
        (json!({ "type": "array" }), "items is required"),
        (json!({ "type": "object", "properties": {}, "additionalProperties": false }), "mutually"),
        (json!({ "type": "string", "pattern": "(?=a)" }), "valid regular expression"),
        (json!({ "type": "string", "pattern": "^.{0,1001}$" }), "valid regular expression"),
        (json!({ "type": "string", "pattern": "^.{1001}$" }), "valid regular expression"),
        (json!({ "type": "string", "anyOf": [{ "type": "string" }] }), "type must be undefined"),
        (
            json!({ "type": "object", "oneOf": [{ "properties": { "a": {} } }] }),
            "specified outside",
        ),
        (
            json!({
                "type": "array", "items": { "type": "object" }, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["a"],
            }),
            "must be required",
        ),
    ] {
        let wrong = with(spec.clone()).join("; ");
        assert!(wrong.contains(part), "{spec}: {wrong:?}");
    }
    assert!(refused(&json!({ "type": "string" })).join(";").contains("at the root"));
}

/// Whether the schema takes the spec, as an API server's validation goes.
fn takes(spec: &Value) -> bool {
    let crd = crd();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    jsonschema::validator_for(schema).unwrap().is_valid(spec)
}

#[test]
fn it_takes_what_the_file_takes() {
    for spec in [
        json!({}),
        json!({ "targetRefs": [{ "name": "reviews", "kind": "Service", "group": "" }] }),
        json!({ "loadBalancer": "leastConnections" }),
        json!({ "loadBalancer": { "algorithm": "consistentHash", "hashOn": "header:x-user" } }),
        json!({ "rateLimit": "off", "healthCheck": "off", "bandwidth": "off" }),
        json!({ "rateLimit": { "requests": 5, "per": "1s" } }),
        json!({ "rateLimit": [{ "requests": 5 }, { "requests": 100, "by": "client" }] }),
        json!({ "failover": { "consecutiveFailures": 3, "maxEjected": "30%" } }),
        json!({ "failover": { "consecutiveFailures": { "connect": 2 } } }),
        json!({ "onRemoval": "close" }),
        json!({ "onRemoval": { "drain": "30s" } }),
        json!({ "healthCheck": { "http": { "path": "/healthz" } }, "timeout": { "request": "5s" } }),
    ] {
        assert!(takes(&spec), "{spec}");
        let mut block = spec.clone();
        block.as_object_mut().unwrap().remove("targetRefs");
        crate::config::PolicyBlock::read(&block).unwrap();
    }
}

#[test]
fn it_refuses_what_is_wrong() {
    for spec in [
        json!({ "loadBalancer": "fastest" }),
        json!({ "loadBalancer": { "algorithm": "fastest" } }),
        json!({ "rateLimit": { "requests": 0 } }),
        json!({ "rateLimit": { "per": "1s" } }),
        json!({ "rateLimit": [{ "requests": "many" }] }),
        json!({ "rateLimit": "on" }),
        json!({ "timeout": { "request": "soon" } }),
        json!({ "timeout": "5s" }),
        json!({ "targetRefs": [{ "name": "reviews", "kind": "Deployment" }] }),
        json!({ "targetRefs": [{}] }),
        json!({ "failover": { "attempts": 1000 } }),
    ] {
        assert!(!takes(&spec), "{spec}");
    }
}
