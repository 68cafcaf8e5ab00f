//! Objects as clusters have them, in brief.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A namespace; captured where it is labelled so.
pub fn namespace(name: &str, captured: bool) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    if captured {
        object["metadata"]["labels"] = json!({"mesh.dev/capture": "true"});
    }
    object
}

/// A node in a zone.
pub fn node(name: &str, region: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/region": region,
            "topology.kubernetes.io/zone": zone,
        }},
    })
}

/// A ClusterIP service with one port, 80, for which no targets are selected:
/// its slices are the test's.
pub fn service(namespace: &str, name: &str, cluster_ip: IpAddr, port_name: &str) -> Value {
    let family = if cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": port_name, "port": 80, "targetPort": 80, "protocol": "TCP"}],
        },
    })
}

/// A slice of a service: ready endpoints on port 80.
pub fn slice<'a>(
    (namespace, service): (&str, &str),
    name: &str,
    port_name: &str,
    addresses: impl IntoIterator<Item = &'a IpAddr>,
) -> Value {
    let endpoints: Vec<&IpAddr> = addresses.into_iter().collect();
    let family = if endpoints.first().is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<Value> = endpoints
        .into_iter()
        .map(|address| {
            json!({"addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false}})
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name,
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": family, "endpoints": endpoints,
        "ports": [{"name": port_name, "port": 80, "protocol": "TCP"}],
    })
}

/// A running pod.
pub fn pod(namespace: &str, name: &str, node: &str, address: IpAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "serviceAccountName": name,
            "containers": [{"name": name, "image": "none"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}
