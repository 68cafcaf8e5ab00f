//! Envoy: explicit, as the sidecar of a client, as the sidecar of a server.

use std::path::Path;

use anyhow::Result;
use mesh_tests::{Pod, Process};
use serde_json::{Value, json};

use super::{Upstream, explicit_port, kinds, start};
use crate::bench::{
    interception::{Addresses, INBOUND, OUTBOUND, SIDECAR_USER},
    machine::Cores,
    scenario::Kind,
};

/// Limits of its own that would answer 503 before any of ours are met.
const UNLIMITED: u32 = 1 << 20;

/// Where it stands.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    Explicit,
    /// For what its pod sends to virtual addresses.
    Client(Addresses),
    /// For what its pod is sent.
    Server,
}

pub fn run(
    program: &Path,
    pod: &Pod,
    role: Role,
    upstream: &Upstream,
    cores: &Cores,
) -> Result<Process> {
    let file = pod.file("envoy.json", bootstrap(pod, role, upstream).to_string())?;
    let user = match role {
        Role::Explicit => String::new(),
        // The rules let this user's traffic through.
        _ => format!("setpriv --reuid {SIDECAR_USER} --regid {SIDECAR_USER} --clear-groups "),
    };
    let line = format!(
        "{user}{} -c {} --concurrency {} --disable-hot-restart --log-level warn",
        program.display(),
        file.display(),
        cores.workers,
    );
    start(pod, "envoy", &cores.all, &line)
}

fn bootstrap(pod: &Pod, role: Role, upstream: &Upstream) -> Value {
    let mut listeners: Vec<Value> = Vec::new();
    let mut clusters: Vec<Value> = Vec::new();
    match role {
        Role::Explicit => {}
        Role::Client(_) => listeners.push(catch_all(OUTBOUND)),
        Role::Server => listeners.push(catch_all(INBOUND)),
    }
    if listeners.len() == 1 {
        clusters.push(json!({
            "name": "passthrough", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "5s",
        }));
    }
    for kind in kinds() {
        let (address, port) = match role {
            Role::Explicit => ("127.0.0.1".to_owned(), explicit_port(kind)),
            Role::Client(addresses) => (addresses.of(kind).to_string(), Addresses::PORT),
            // One nginx serves both, and HTTP is what a user would have named.
            Role::Server if kind == Kind::Tcp => continue,
            Role::Server => (pod.ip4.to_string(), kind.server_port()),
        };
        let bound = matches!(role, Role::Explicit);
        listeners.push(json!({
            "name": format!("listener-{}", kind.number()),
            "address": socket(&address, port),
            "bind_to_port": bound,
            "tcp_backlog_size": 4096,
            "filter_chains": [{"filters": [filter(kind)]}],
        }));
        let servers = match role {
            Role::Server => vec![("127.0.0.1".to_owned(), kind.server_port())],
            _ => upstream.of(kind),
        };
        clusters.push(cluster(kind, &servers));
    }
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

/// The listener that the rules lead to, which hands connections on to the one
/// for their original destination.
fn catch_all(port: u16) -> Value {
    json!({
        "name": "catch-all",
        "address": socket("0.0.0.0", port),
        "use_original_dst": true,
        "tcp_backlog_size": 4096,
        "filter_chains": [{"filters": [tcp_proxy("passthrough")]}],
    })
}

fn socket(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn name(kind: Kind) -> String {
    format!("cluster-{}", kind.number())
}

fn filter(kind: Kind) -> Value {
    match kind {
        Kind::Http | Kind::Http2 => http(&name(kind)),
        _ => tcp_proxy(&name(kind)),
    }
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp", "cluster": cluster,
        },
    })
}

/// Without what costs and isn't needed: request ids, its own headers, logs.
fn http(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "generate_request_id": false,
            "http2_protocol_options": {"max_concurrent_streams": 1024},
            "route_config": {"virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": true, "dynamic_stats": false,
                },
            }],
        },
    })
}

fn cluster(kind: Kind, servers: &[(String, u16)]) -> Value {
    let endpoints: Vec<Value> = servers
        .iter()
        .map(|(address, port)| json!({"endpoint": {"address": socket(address, *port)}}))
        .collect();
    let limits = json!({
        "max_connections": UNLIMITED, "max_pending_requests": UNLIMITED,
        "max_requests": UNLIMITED, "max_retries": UNLIMITED,
    });
    let mut cluster = json!({
        "name": name(kind), "type": "STATIC", "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name(kind), "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if kind == Kind::Http2 {
        let options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        });
    }
    cluster
}
