//! The small server against a client: what kube-rs relies on.

use std::{env, fs, process};

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{ADMIN_TOKEN, AGENT_TOKEN, Fault, Kubernetes, client::Client, object, prepare};

const JSON: &str = "application/json";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const PODS: &str = "/api/v1/namespaces/shop/pods";

struct Case {
    kubernetes: Kubernetes,
    client: Client,
    agent: Client,
}

impl Case {
    fn new(name: &str) -> Result<Self> {
        let folder = env::temp_dir().join(format!("mesh-api-{}-{name}", process::id()));
        let (runtime, certificates, address) = prepare(&folder)?;
        let (handle, config) = (runtime.handle().clone(), certificates.client()?);
        let kubernetes = Kubernetes::serve(&folder, (runtime, certificates, address))?;
        let client = |token| Client::new(handle.clone(), config.clone(), address, token);
        let (client, agent) = (client(ADMIN_TOKEN), client(AGENT_TOKEN));
        fs::remove_dir_all(&folder)?;
        Ok(Self { kubernetes, client, agent })
    }

    fn get(&self, path: &str) -> Result<(u16, Value)> {
        self.client.ask(&Method::GET, path, (JSON, &Value::Null))
    }

    fn pod(&self, name: &str, node: &str) -> Result<Value> {
        self.kubernetes.apply(&object::pod("shop", name, node, "10.1.0.1".parse()?))
    }

    /// What a watch of one second says: type, name and resource version.
    fn watch(&self, path: &str) -> Result<Vec<(String, String, String)>> {
        let (status, body) = self.get(path)?;
        assert_eq!(status, 200, "{body}");
        let lines = match body {
            Value::String(lines) => lines,
            one => one.to_string(),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let event = |line| {
            let event: Value = serde_json::from_str(line)?;
            let metadata = &event["object"]["metadata"];
            Ok((text(&event["type"]), text(&metadata["name"]), text(&metadata["resourceVersion"])))
        };
        lines.lines().map(event).collect()
    }
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn lists_come_in_pages_of_one_revision() -> Result<()> {
    let case = Case::new("pages")?;
    for name in ["a", "b", "c"] {
        case.pod(name, "node")?;
    }
    let (_, first) = case.get(&format!("{PODS}?limit=2"))?;
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    case.kubernetes.delete("pods", "shop", "c")?;
    let token = first["metadata"]["continue"].as_str().unwrap_or_default();
    let (_, rest) = case.get(&format!("{PODS}?limit=2&continue={token}"))?;
    assert_eq!(rest["items"][0]["metadata"]["name"], "c", "as it was when the list began");
    assert_eq!(version(&rest), version(&first));
    case.kubernetes.expire()?;
    let (status, gone) = case.get(&format!("{PODS}?limit=2&continue={token}"))?;
    assert_eq!((status, &gone["reason"]), (410, &json!("Expired")));
    Ok(())
}

#[test]
fn a_watch_follows_what_its_selector_matches() -> Result<()> {
    let case = Case::new("watch")?;
    let start = version(&case.pod("a", "node-1")?);
    case.pod("b", "node-2")?;
    let moved = version(&case.pod("a", "node-2")?);
    case.kubernetes.delete("pods", "shop", "b")?;
    let field = "fieldSelector=spec.nodeName%3Dnode-2&timeoutSeconds=1";
    let seen = case.watch(&format!("{PODS}?watch=true&resourceVersion={start}&{field}"))?;
    let kinds: Vec<_> = seen.iter().map(|(kind, name, _)| (&**kind, &**name)).collect();
    assert_eq!(kinds, [("ADDED", "b"), ("ADDED", "a"), ("DELETED", "b")]);
    assert_eq!(seen[1].2, moved);
    // One that begins with a list says where the list ends.
    let initial =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let seen = case.watch(&format!("{PODS}?watch=true&{initial}&timeoutSeconds=1"))?;
    let kinds: Vec<_> = seen.iter().map(|(kind, name, _)| (&**kind, &**name)).collect();
    assert_eq!(kinds, [("ADDED", "a"), ("BOOKMARK", "")]);

    case.kubernetes.expire()?;
    let gone =
        case.watch(&format!("{PODS}?watch=true&resourceVersion={start}&timeoutSeconds=1"))?;
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].0, "ERROR");
    Ok(())
}

#[test]
fn writes_conflict_and_status_is_a_part_of_its_own() -> Result<()> {
    let case = Case::new("write")?;
    let pod = case.pod("a", "node")?;
    let path = format!("{PODS}/a");
    let mut new = pod.clone();
    new["spec"]["nodeName"] = json!("other");
    new["status"]["phase"] = json!("Failed");
    let put = |path: &str, object: &Value| case.client.ask(&Method::PUT, path, (JSON, object));
    let (status, stored) = put(&path, &new)?;
    assert_eq!(status, 200, "{stored}");
    assert_eq!(stored["spec"]["nodeName"], "other");
    assert_eq!(stored["status"]["phase"], "Running", "not by this way");
    assert_eq!(stored["metadata"]["generation"], 2);
    let (status, conflict) = put(&path, &new)?;
    assert_eq!((status, &conflict["reason"]), (409, &json!("Conflict")));
    let patch = json!({"status": {"phase": "Failed"}, "spec": {"nodeName": "no"}});
    let (path, kind) = (format!("{path}/status"), "application/merge-patch+json");
    let stored = case.client.must(&Method::PATCH, &path, (kind, &patch))?;
    assert_eq!(stored["status"]["phase"], "Failed");
    assert_eq!(stored["spec"]["nodeName"], "other");
    assert_eq!(stored["metadata"]["generation"], 2);
    Ok(())
}

#[test]
fn rights_and_faults() -> Result<()> {
    let mut case = Case::new("faults")?;
    let ask = |case: &Case| case.agent.ask(&Method::GET, SLICES, (JSON, &Value::Null));
    assert_eq!(ask(&case)?.0, 200);
    case.kubernetes.deny("list", "endpointslices")?;
    let (status, refusal) = ask(&case)?;
    assert_eq!(status, 403);
    let message = "endpointslices.discovery.k8s.io is forbidden: User \
                   \"system:serviceaccount:mesh-system:mesh-agent\" cannot list resource \
                   \"endpointslices\" in API group \"discovery.k8s.io\" at the cluster scope";
    assert_eq!(refusal["message"], message);
    case.kubernetes.permit_all()?;

    let fault = Fault::answer(429, Some(1)).on("list", "endpointslices").times(1);
    case.kubernetes.fault(fault)?;
    assert_eq!(ask(&case)?.0, 429);
    assert_eq!(ask(&case)?.0, 200);
    case.kubernetes.install("endpointslices", false)?;
    assert_eq!(ask(&case)?.0, 404);
    case.kubernetes.install("endpointslices", true)?;

    case.kubernetes.go_away()?;
    ask(&case).expect_err("nobody is there");
    case.kubernetes.come_back()?;
    assert_eq!(ask(&case)?.0, 200);
    Ok(())
}
