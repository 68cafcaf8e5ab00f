//! A live connection, as the commands show it.

use serde::{Deserialize, Serialize};

/// `mesh-agent connections`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    /// `kernel` or `proxy`.
    pub path: String,
    pub client: String,
    pub who: Who,
    pub service: String,
    /// What the client asked for.
    pub original: String,
    /// `None` while the agent has picked none.
    pub instance: Option<String>,
    pub age_ms: u64,
    /// `None` where nobody counts: a socket that is in none of the captured
    /// namespaces any more.
    pub bytes_sent: Option<u64>,
    pub bytes_received: Option<u64>,
    pub rtt_us: Option<u64>,
    /// Whether payload goes from socket to socket, past TCP (`bypass`); told of
    /// the kernel path only.
    #[serde(default)]
    pub past_tcp: bool,
}

/// Whose socket it is. What the system no longer knows is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    pub pid: u32,
    pub process: String,
    pub cgroup: String,
    /// On Kubernetes.
    #[serde(default)]
    pub pod: Option<PodView>,
    /// The network namespace's cookie.
    pub netns: u64,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    pub namespace: String,
    pub name: String,
    pub service_account: String,
}
