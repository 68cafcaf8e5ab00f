//! The CustomResourceDefinition of `MeshPolicy`, made of the file's types.

use serde_json::{Map, Value, json};

use super::structural::structural;
use crate::config;

pub const GROUP: &str = "mesh.dev";
pub const VERSION: &str = "v1alpha1";
pub const KIND: &str = "MeshPolicy";
pub const PLURAL: &str = "meshpolicies";

/// As `kubectl apply` takes it.
pub fn crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{PLURAL}.{GROUP}"),
            "labels": {
                "app.kubernetes.io/name": "mesh-agent",
                // Tools of Gateway API list policies by it.
                "gateway.networking.k8s.io/policy": "Direct",
            },
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "singular": "meshpolicy",
                "categories": ["mesh"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns(),
                "schema": { "openAPIV3Schema": schema() },
            }],
        },
    })
}

fn columns() -> Value {
    let condition = |name: &str| {
        json!({
            "name": name,
            "type": "string",
            "jsonPath": format!(".status.conditions[?(@.type==\"{name}\")].status"),
        })
    };
    json!([
        { "name": "Targets", "type": "string", "jsonPath": ".spec.targetRefs[*].name" },
        condition("Accepted"),
        condition("Programmed"),
        {
            "name": "Reason",
            "type": "string",
            "priority": 1,
            "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].reason",
        },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ])
}

fn schema() -> Value {
    let policy = config::policy_schema();
    let mut spec = structural(&policy, &policy["$defs"]);
    let mut properties = Map::new();
    properties.insert("targetRefs".into(), target_refs());
    if let Value::Object(keys) = spec["properties"].take() {
        properties.extend(keys);
    }
    spec["properties"] = Value::Object(properties);
    spec["description"] = "What the agents hold requests and connections to. Keys that aren't \
        written are those of the namespace's default, then those of the agents' configuration."
        .into();
    json!({
        "type": "object",
        "description": "How the traffic of Services is treated: the `policy` block of mesh-agent's \
            configuration file. One that names no target is its namespace's default.",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status(),
        },
    })
}

fn target_refs() -> Value {
    let name = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    json!({
        "description": "The Services of this namespace that it holds for. Without any it is the \
            namespace's default, which is merged under the others.",
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "group": {
                    "description": "Empty, as that of a Service is.",
                    "type": "string",
                    "enum": [""],
                },
                "kind": { "description": "Default: `Service`.", "type": "string", "enum": ["Service"] },
                "name": {
                    "description": "Of the Service.",
                    "type": "string",
                    "pattern": name,
                    "maxLength": 63,
                },
                "sectionName": {
                    "description": "Name of one of its ports, for which alone it holds; all where \
                        there is none.",
                    "type": "string",
                    "pattern": name,
                    "maxLength": 63,
                },
            },
        },
    })
}

fn status() -> Value {
    json!({
        "type": "object",
        "description": "Written by the agent that holds the lease.",
        "properties": {
            "conditions": {
                "type": "array",
                "maxItems": 8,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": { "type": "string", "maxLength": 316 },
                        "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                        "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                        "lastTransitionTime": { "type": "string", "format": "date-time" },
                        "reason": {
                            "type": "string",
                            "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                            "maxLength": 1024,
                        },
                        "message": { "type": "string", "maxLength": 32768 },
                    },
                },
            },
        },
    })
}

#[cfg(test)]
#[path = "crd_tests.rs"]
mod tests;
