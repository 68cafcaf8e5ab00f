//! Who may do what: RBAC of two users.

use serde_json::{Value, json};

use super::{failure::Failure, resource::Resource};

/// As whom the agent comes.
pub const AGENT: &str = "system:serviceaccount:mesh-system:mesh-agent";
/// As whom tests and people come.
pub const ADMIN: &str = "admin";

/// What the agent may do, beyond nothing: verbs by resource. A `/status` is a
/// right of its own.
const GRANTED: [(&str, &str, &str); 14] = [
    ("", "services", "get list watch"),
    ("", "pods", "get list watch"),
    ("", "nodes", "get list watch"),
    ("", "namespaces", "get list watch"),
    ("", "events", "create patch"),
    ("discovery.k8s.io", "endpointslices", "get list watch"),
    ("coordination.k8s.io", "leases", "get create update patch"),
    ("mesh.dev", "meshpolicies", "get list watch"),
    ("mesh.dev", "meshpolicies/status", "get update patch"),
    ("gateway.networking.k8s.io", "httproutes", "get list watch"),
    ("gateway.networking.k8s.io", "httproutes/status", "get update patch"),
    ("gateway.networking.k8s.io", "grpcroutes", "get list watch"),
    ("gateway.networking.k8s.io", "grpcroutes/status", "get update patch"),
    ("gateway.networking.k8s.io", "referencegrants", "get list watch"),
];

/// Rights taken from the agent: verb and plural.
pub type Denied = Vec<(String, String)>;

/// An error in the words of a real server where `user` may not.
pub fn check(
    user: &str,
    verb: &str,
    (resource, status): (&Resource, bool),
    namespace: Option<&str>,
    denied: &Denied,
) -> Result<(), Failure> {
    let what = format!("{}{}", resource.plural, if status { "/status" } else { "" });
    let granted = GRANTED.iter().any(|(group, plural, verbs)| {
        *group == resource.group && *plural == what && verbs.split(' ').any(|one| one == verb)
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
    let rule = |(group, plural, verbs): &(&str, &str, &str)| {
        let left: Vec<_> = verbs
            .split(' ')
            .filter(|verb| !denied.iter().any(|(one, what)| one == verb && what == plural))
            .collect();
        json!({"apiGroups": [group], "resources": [plural], "verbs": left})
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "mesh-agent"},
        "rules": GRANTED.iter().map(rule).collect::<Vec<_>>(),
    })
}
