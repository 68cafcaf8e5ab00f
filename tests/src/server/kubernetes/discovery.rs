//! What a client can find out about the server: enough for kubectl.

use serde_json::{Value, json};

use super::resource::{RESOURCES, Resource};

/// The answer for a path that names no objects, if there is one.
pub fn answer(path: &str, installed: impl Fn(&'static Resource) -> bool) -> Option<Value> {
    let there = || RESOURCES.iter().filter(|one| installed(one));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(json!({
            "major": "1", "minor": "32", "gitVersion": "v1.32.0+mesh-tests",
            "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "", "compiler": "", "platform": "linux/amd64",
        })),
        ["healthz" | "livez" | "readyz"] => Some(json!("ok")),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let mut groups: Vec<&str> = there().map(|one| one.group).collect();
            groups.retain(|group| !group.is_empty());
            groups.dedup();
            let groups: Vec<_> = groups.into_iter().map(|name| group(name, there())).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => there().any(|one| one.group == *name).then(|| group(name, there())),
        ["api", version] => resources("", version, there()),
        ["apis", group, version] => resources(group, version, there()),
        ["openapi", "v3"] => Some(specifications(there())),
        ["openapi", "v3", "api", version] => Some(specification(("", version), there())),
        ["openapi", "v3", "apis", group, version] => Some(specification((group, version), there())),
        _ => None,
    }
}

fn group(name: &str, all: impl Iterator<Item = &'static Resource>) -> Value {
    let mut versions: Vec<_> =
        all.filter(|one| one.group == name).map(|one| (one.api_version(), one.version)).collect();
    versions.dedup();
    let versions: Vec<_> = versions
        .into_iter()
        .map(|(whole, version)| json!({"groupVersion": whole, "version": version}))
        .collect();
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name,
        "versions": versions, "preferredVersion": versions.first()})
}

fn resources(
    group: &str,
    version: &str,
    all: impl Iterator<Item = &'static Resource>,
) -> Option<Value> {
    const VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let mut list = Vec::new();
    for one in all.filter(|one| one.group == group && one.version == version) {
        let short = if one.short.is_empty() { vec![] } else { vec![one.short] };
        list.push(json!({
            "name": one.plural, "singularName": one.kind.to_lowercase(), "kind": one.kind,
            "namespaced": one.namespaced, "verbs": VERBS, "shortNames": short,
        }));
        if one.status {
            list.push(json!({
                "name": format!("{}/status", one.plural), "singularName": "", "kind": one.kind,
                "namespaced": one.namespaced, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    let whole = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!list.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": whole,
            "resources": list})
    })
}

/// Where the description of each group and version is.
fn specifications(all: impl Iterator<Item = &'static Resource>) -> Value {
    let mut paths = json!({});
    for one in all {
        let root = if one.group.is_empty() { "api" } else { "apis" };
        let path = format!("{root}/{}", one.api_version());
        paths[&path] = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
    }
    json!({"paths": paths})
}

/// Says no more than that the server validates by itself: kubectl asks for it
/// before it sends anything.
fn specification(
    (group, version): (&str, &str),
    all: impl Iterator<Item = &'static Resource>,
) -> Value {
    let mut paths = json!({});
    for one in all.filter(|one| (one.group, one.version) == (group, version)) {
        paths[format!("{}/{{name}}", one.path(Some("{namespace}")))] = json!({"patch": {
            "parameters": [{"name": "fieldValidation", "in": "query"}],
            "x-kubernetes-group-version-kind": {
                "group": group, "version": version, "kind": one.kind,
            },
        }});
    }
    json!({"openapi": "3.0.0", "info": {"title": "mesh-tests", "version": "0"}, "paths": paths})
}
