//! Consul's `/v1/health/service/NAME`, and its blocking queries. Pure.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, time::Duration};

use http::HeaderMap;
use serde::Deserialize;

use crate::{
    discovery::is_usable,
    model::{Instance, Locality, Weight, labels},
};

/// For how long the server shall wait for a change, in seconds.
const WAIT: u64 = 60;

/// Where we are in the server's history; 0: nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor(u64);

impl Cursor {
    /// What to ask for: the configured path with what a blocking query needs.
    pub fn path(self, configured: &str) -> String {
        let mark = if configured.contains('?') { '&' } else { '?' };
        match self.0 {
            0 => format!("{configured}{mark}passing=true"),
            index => format!("{configured}{mark}passing=true&index={index}&wait={WAIT}s"),
        }
    }

    /// How long the server may hold the answer back: it adds up to a sixteenth.
    pub fn server_waits(self) -> Duration {
        match self.0 {
            0 => Duration::ZERO,
            _ => Duration::from_secs(WAIT + WAIT / 16 + 1),
        }
    }

    /// Moves to where the response is. `false` where it doesn't say: without
    /// an index a query can't block.
    ///
    /// The rules are those of Consul's documentation for blocking queries: an
    /// index that goes backwards starts over, and one of 0 would spin.
    pub fn follow(&mut self, headers: &HeaderMap) -> bool {
        let index = headers.get("x-consul-index").and_then(|value| value.to_str().ok());
        self.0 = match index.and_then(|text| text.trim().parse::<u64>().ok()) {
            None => 0,
            Some(index) if index < self.0 => 0,
            Some(index) => index.max(1),
        };
        self.0 > 0
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    #[serde(default, deserialize_with = "null_is_empty")]
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    node: String,
    address: String,
    #[serde(default)]
    datacenter: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    /// The node's where it is empty.
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default, deserialize_with = "null_is_empty")]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    weights: Option<Weights>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

/// Consul writes empty lists and maps as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The instances that pass all of their checks.
pub(super) fn parse(body: &[u8], locality: &Locality) -> Result<Vec<Instance>, String> {
    let entries: Vec<Entry> = serde_json::from_slice(body)
        .map_err(|error| format!("this is no answer of /v1/health/service/NAME: {error}"))?;
    // The server was asked for these alone; one that doesn't know the question
    // must not make us send traffic to what is broken.
    let passing = |entry: &Entry| entry.checks.iter().all(|check| check.status == "passing");
    entries.into_iter().filter(passing).map(|entry| instance(entry, locality)).collect()
}

fn instance(entry: Entry, locality: &Locality) -> Result<Instance, String> {
    let Entry { node, service, .. } = entry;
    let text = if service.address.is_empty() { &node.address } else { &service.address };
    let address: IpAddr = text.parse().map_err(|_| {
        format!("{text:?} is no address; names aren't resolved: register the service with one")
    })?;
    if !is_usable(address) {
        return Err(format!("{text:?} is no address of a single machine"));
    }
    let known = |part: &str, said: &mut String| {
        if part.is_empty() { std::mem::take(said) } else { part.to_owned() }
    };
    let (mut datacenter, mut name) = (node.datacenter, node.node);
    Ok(Instance {
        address,
        port: NonZeroU16::new(service.port),
        serves: None,
        weight: service.weights.map_or_else(Weight::default, |weights| Weight(weights.passing)),
        locality: Locality {
            region: known(&locality.region, &mut datacenter),
            node: known(&locality.node, &mut name),
            ..locality.clone()
        }
        .shared(),
        priority: 0,
        labels: labels(service.meta),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(index: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-consul-index", index.parse().unwrap());
        headers
    }

    #[test]
    fn the_cursor_follows_the_index() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.path("/x"), "/x?passing=true");
        assert_eq!(cursor.server_waits(), Duration::ZERO);
        assert!(cursor.follow(&headers("7")));
        assert_eq!(cursor.path("/x?dc=a"), "/x?dc=a&passing=true&index=7&wait=60s");
        assert!(cursor.server_waits() > Duration::from_secs(63));
        assert!(cursor.follow(&headers("9")));
        assert_eq!(cursor, Cursor(9));
        assert!(!cursor.follow(&headers("8")), "backwards starts over");
        assert_eq!(cursor, Cursor(0));
        assert!(cursor.follow(&headers("0")), "0 would spin");
        assert_eq!(cursor, Cursor(1));
        assert!(!cursor.follow(&HeaderMap::new()));
        assert_eq!(cursor, Cursor(0));
    }

    #[test]
    fn passing_instances_with_their_weights() {
        let body = br#"[
            {"Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
             "Service": {"ID": "web1", "Address": "", "Port": 8080, "Meta": {"version": "v2"},
                         "Weights": {"Passing": 5, "Warning": 1}, "Tags": null},
             "Checks": [{"Status": "passing"}, {"Status": "passing"}]},
            {"Node": {"Node": "n2", "Address": "10.0.0.2", "Datacenter": "dc1"},
             "Service": {"Address": "fd00::2", "Port": 0, "Meta": null}, "Checks": null},
            {"Node": {"Address": "10.0.0.3"}, "Service": {"Port": 80},
             "Checks": [{"Status": "passing"}, {"Status": "warning"}]}
        ]"#;
        let home = Locality { cloud: "aws".into(), ..Locality::default() };
        let instances = parse(body, &home).unwrap();
        let shown: Vec<_> = (instances.iter())
            .map(|i| {
                let port = i.port.map_or(0, NonZeroU16::get);
                format!("{} {port} {} {}", i.address, i.weight.0, i.locality)
            })
            .collect();
        assert_eq!(shown, ["10.0.0.1 8080 5 aws/dc1/?/n1", "fd00::2 0 1 aws/dc1/?/n2"]);
        assert_eq!(instances[0].labels["version"], "v2");
        assert!(parse(b"[]", &home).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for body in [
            &br#"[{"Node": {"Address": "web.example"}, "Service": {"Port": 80}}]"#[..],
            br#"[{"Node": {"Address": "0.0.0.0"}, "Service": {"Port": 80}}]"#,
            br#"{"errors": []}"#,
            b"rpc error",
        ] {
            assert!(parse(body, &Locality::default()).is_err());
        }
    }
}
