//! What is spoken on a port of a Service.

use super::super::ServicePort;
use crate::model::{Protocol, Transport};

/// Where the server speaks first, there is nothing to find out from the
/// client's first bytes: SMTP, `MySQL`, `PostgreSQL`, Redis and others, as Linkerd
/// takes them to be opaque.
const SERVER_FIRST: [u16; 10] = [25, 587, 3306, 4444, 5432, 6379, 9300, 9092, 11211, 27017];

/// By `appProtocol`; else by the name's first part, as Istio has it; else it
/// is found out from each connection's first bytes.
pub(super) fn of(port: &ServicePort) -> Protocol {
    if port.transport == Transport::Udp {
        return Protocol::Udp;
    }
    if let Some(protocol) = &port.protocol {
        // Who names one that we don't know means that it isn't HTTP.
        return named(protocol).unwrap_or(Protocol::Tcp);
    }
    let prefix = port.name.split('-').next().unwrap_or_default();
    match named(prefix) {
        Some(protocol) => protocol,
        None if SERVER_FIRST.contains(&port.port.get()) => Protocol::Tcp,
        None => Protocol::Auto,
    }
}

fn named(name: &str) -> Option<Protocol> {
    Some(match name.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => Protocol::Http,
        "http2" | "h2c" | "kubernetes.io/h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        // Sealed: nothing to be read in it.
        "https" | "tls" | "kubernetes.io/wss" => Protocol::Tcp,
        "tcp" | "mongo" | "mysql" | "redis" | "postgres" | "postgresql" | "amqp" | "kafka" => {
            Protocol::Tcp
        }
        _ => return None,
    })
}
