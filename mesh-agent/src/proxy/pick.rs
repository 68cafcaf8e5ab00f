//! Who picks, and which instance it gets: what the balancer needs to know of
//! the client, and the instance that it keeps to.

use std::net::SocketAddr;

use http::{HeaderMap, header, request};
use tokio::time::Instant;

use super::{connection::Connection, listener::Space};
use crate::{
    balance::{Ask, key},
    model::{Algorithm, HashOn},
    registry::{ServicePort, Subset},
};

/// For whom an instance is picked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// Its workload: what session affinity goes by.
    workload: u64,
    /// What `consistentHash` goes by; `None` with other algorithms.
    key: Option<u64>,
    /// Index in the port's subsets, where a route leads to one of them.
    subset: Option<usize>,
}

impl Caller {
    /// Of a whole connection.
    pub fn connection(connection: &Connection, port: &ServicePort) -> Self {
        let hashed = port.policy.algorithm == Algorithm::ConsistentHash;
        let key = hashed.then(|| source(connection, port));
        Self { workload: workload(connection), key, subset: None }
    }

    /// Of one request. Where it lacks what is hashed, its source is.
    pub fn request(connection: &Connection, port: &ServicePort, head: &request::Parts) -> Self {
        if port.policy.algorithm != Algorithm::ConsistentHash {
            return Self { workload: workload(connection), key: None, subset: None };
        }
        let text = match &port.policy.hash_on {
            HashOn::Source => None,
            HashOn::Path => Some(head.uri.path().as_bytes()),
            HashOn::Header(name) => head.headers.get(&**name).map(http::HeaderValue::as_bytes),
            HashOn::Cookie(name) => cookie(&head.headers, name),
        };
        let key = text.map_or_else(|| source(connection, port), key::text);
        Self { workload: workload(connection), key: Some(key), subset: None }
    }

    /// The subset that it is for.
    pub fn subset(self, port: &ServicePort) -> Option<&Subset> {
        self.subset.and_then(|index| port.subsets.get(index))
    }

    /// Only instances of this subset will do.
    pub fn within(self, subset: Option<usize>) -> Self {
        Self { subset, ..self }
    }
}

/// The index of the next instance. A client with session affinity gets the one
/// that it had, as long as that is in the pool and usable.
pub(super) fn pick(
    port: &ServicePort,
    caller: Caller,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let subset = caller.subset(port);
    let balancer = subset.map_or(&port.balancer, |subset| &subset.balancer);
    // A client may keep to an instance that this route doesn't lead to.
    let usable = |index: usize| {
        usable(index) && subset.is_none_or(|subset| port.endpoints[index].has(&subset.labels))
    };
    let now = Instant::now();
    let affinity = port.policy.session_affinity.map(|timeout| (&port.affinity, timeout));
    let kept = affinity.and_then(|(affinity, timeout)| {
        let instance = affinity.instance(caller.workload, timeout, now)?;
        balancer.find(instance).filter(|&index| usable(index))
    });
    let ask = Ask::new(rand::random(), now);
    let ask = caller.key.map_or(ask, |key| ask.keyed(key));
    let index = kept.or_else(|| balancer.pick(ask, usable))?;
    if let Some((affinity, _)) = affinity {
        affinity.keep(caller.workload, key::instance(port.endpoints[index].address), now);
    }
    Some(index)
}

/// Listeners of `--no-ebpf` all stand in one namespace: there, clients are told
/// apart by their addresses.
pub(super) fn workload(connection: &Connection) -> u64 {
    connection.workload
}

/// The same, before there is a connection.
pub(super) fn workload_of(space: &Space, peer: SocketAddr) -> u64 {
    match space.explicit {
        true => key::source(peer.ip()),
        false => key::workload(space.namespace.cookie()),
    }
}

/// The key of the client's own address: not that of the loopback, from which
/// a redirected connection arrives.
fn source(connection: &Connection, port: &ServicePort) -> u64 {
    let peer = connection.peer.ip();
    let options = connection.worker.socket;
    key::source(
        port.endpoints.first().map_or(peer, |endpoint| {
            connection.space.client_address(peer, endpoint.address, options)
        }),
    )
}

/// The first value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let split = pair.iter().position(|&byte| byte == b'=')?;
        (&pair[..split] == name.as_bytes()).then(|| &pair[split + 1..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_in_any_field() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; session=x=y;b".parse().unwrap());
        headers.append(header::COOKIE, "c=3".parse().unwrap());
        let cases = [("a", Some("1")), ("session", Some("x=y")), ("c", Some("3")), ("b", None)];
        for (name, expect) in cases {
            assert_eq!(cookie(&headers, name), expect.map(str::as_bytes), "{name}");
        }
    }
}
