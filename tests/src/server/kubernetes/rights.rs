//! Who may do what: RBAC of two users. What the agent may is what deploy/kubernetes
//! gives it, so that what is shipped is what is tested.

use std::sync::LazyLock;

use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{failure::Failure, resource::Resource};

/// As whom the agent comes.
pub const AGENT: &str = "system:serviceaccount:mesh-system:mesh-agent";
/// As whom tests and people come.
pub const ADMIN: &str = "admin";

/// Rights taken from the agent: verb and plural.
pub type Denied = Vec<(String, String)>;

/// The Role holds in the agent's own namespace only; in tests that is `default`,
/// and it counts everywhere.
static RULES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let files = [
        include_str!("../../../../deploy/kubernetes/base/cluster-role.yaml"),
        include_str!("../../../../deploy/kubernetes/base/role.yaml"),
    ];
    let documents = files.iter().flat_map(|file| file.split("\n---\n"));
    let documents = documents.map(|text| -> Value {
        serde_saphyr::from_str(text).expect("a manifest of deploy/kubernetes is YAML")
    });
    documents.flat_map(|document| list(&document["rules"])).collect()
});

fn list<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    Vec::deserialize(value).unwrap_or_default()
}

fn names(rule: &Value, key: &str) -> Vec<String> {
    list(&rule[key])
}

/// An error in the words of a real server where `user` may not.
pub fn check(
    user: &str,
    verb: &str,
    (resource, status): (&Resource, bool),
    namespace: Option<&str>,
    denied: &Denied,
) -> Result<(), Failure> {
    let what = format!("{}{}", resource.plural, if status { "/status" } else { "" });
    let has = |rule: &Value, key: &str, name: &str| names(rule, key).iter().any(|it| it == name);
    let granted = RULES.iter().any(|rule| {
        has(rule, "apiGroups", resource.group)
            && has(rule, "resources", &what)
            && has(rule, "verbs", verb)
    });
    let taken = denied.iter().any(|(one, plural)| one == verb && *plural == what);
    if user == ADMIN || granted && !taken {
        return Ok(());
    }
    let place = match namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{resource} is forbidden: User \"{user}\" cannot {verb} resource \"{what}\" in API group \
         \"{}\" {place}",
        resource.group,
    );
    Err(Failure::new(403, "Forbidden", message))
}

/// The same as a ClusterRole, for a real server.
pub fn cluster_role(denied: &Denied) -> Value {
    let mut rules = Vec::new();
    for rule in RULES.iter() {
        for resource in names(rule, "resources") {
            let is_left = |verb: &String| {
                !denied.iter().any(|(one, plural)| one == verb && *plural == resource)
            };
            let verbs: Vec<_> = names(rule, "verbs").into_iter().filter(is_left).collect();
            rules.push(json!({
                "apiGroups": rule["apiGroups"], "resources": [resource], "verbs": verbs,
            }));
        }
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "mesh-agent"},
        "rules": rules,
    })
}
