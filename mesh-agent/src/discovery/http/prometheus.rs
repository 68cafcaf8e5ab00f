//! The format of Prometheus' HTTP service discovery. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

use serde::Deserialize;

use crate::{
    discovery::is_usable,
    model::{Instance, Locality, Weight, labels},
};

/// Targets that have the same labels.
#[derive(Debug, Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The instances of a list; one that can't be understood is refused whole.
pub(super) fn parse(body: &[u8], locality: &Locality) -> Result<Vec<Instance>, String> {
    let groups: Vec<Group> = serde_json::from_slice(body).map_err(|error| {
        format!("its list is not of the form [{{\"targets\": […], \"labels\": {{…}}}}]: {error}")
    })?;
    let mut instances = Vec::new();
    for mut group in groups {
        let weight = match group.labels.remove("__weight__") {
            None => Weight::default(),
            Some(text) => Weight(text.trim().parse().map_err(|_| {
                format!("__weight__ is {text:?}, and must be a number from 0 to 65535")
            })?),
        };
        let mut part = |label: &str, known: &str| {
            group.labels.remove(label).unwrap_or_else(|| known.to_owned())
        };
        let locality = Locality {
            cloud: part("cloud", &locality.cloud),
            region: part("region", &locality.region),
            zone: part("zone", &locality.zone),
            node: part("node", &locality.node),
        }
        .shared();
        let labels = labels(group.labels);
        for target in &group.targets {
            let (address, port) = endpoint(target)?;
            let (locality, labels) = (Arc::clone(&locality), Arc::clone(&labels));
            instances.push(Instance {
                address,
                port,
                serves: None,
                weight,
                locality,
                priority: 0,
                labels,
            });
        }
    }
    Ok(instances)
}

/// An address, with or without a port.
fn endpoint(target: &str) -> Result<(IpAddr, Option<NonZeroU16>), String> {
    let bare = target.trim_start_matches('[').trim_end_matches(']');
    let (address, port) = match target.parse::<SocketAddr>() {
        Ok(address) => (address.ip(), NonZeroU16::new(address.port())),
        Err(_) => match bare.parse::<IpAddr>() {
            Ok(address) => (address, None),
            Err(_) => {
                return Err(format!(
                    "its target {target:?} is no address and port, such as 10.0.0.1:80 or \
                     [fd00::1]:80; names aren't resolved: use a dns source"
                ));
            }
        },
    };
    match is_usable(address) {
        true => Ok((address, port)),
        false => Err(format!("its target {target:?} is no address of a single machine")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_become_weight_locality_and_labels() {
        let body = br#"[
            {"targets": ["10.0.0.1:80", "[fd00::1]:81", "10.0.0.2"],
             "labels": {"__weight__": "3", "zone": "a", "version": "v2", "__meta_x": "y"}},
            {"targets": ["10.0.0.3:80"]},
            {"targets": [], "labels": {}, "unknown": 1}
        ]"#;
        let home = Locality { cloud: "aws".into(), zone: "z".into(), ..Locality::default() };
        let instances = parse(body, &home).unwrap();
        let shown: Vec<_> = (instances.iter())
            .map(|i| {
                let port = i.port.map_or(0, NonZeroU16::get);
                format!("{} {port} {} {}", i.address, i.weight.0, i.locality)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "10.0.0.1 80 3 aws/?/a",
                "fd00::1 81 3 aws/?/a",
                "10.0.0.2 0 3 aws/?/a",
                "10.0.0.3 80 1 aws/?/z",
            ]
        );
        let labels: Vec<_> = instances[0].labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["__meta_x=y", "version=v2"]);
        assert!(parse(b"[]", &home).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_taken() {
        for (body, word) in [
            (&b""[..], "EOF"),
            (b"<html>", "expected value"),
            (b"{}", "expected a sequence"),
            (br#"[{"labels": {}}]"#, "targets"),
            (br#"[{"targets": ["10.0.0.1:80", "web.example:80"]}]"#, "dns source"),
            (br#"[{"targets": ["10.0.0.1:99999"]}]"#, "10.0.0.1:99999"),
            (br#"[{"targets": ["0.0.0.0:80"]}]"#, "single machine"),
            (br#"[{"targets": [], "labels": {"__weight__": "-1"}}]"#, "__weight__"),
            (br#"[{"targets": [], "labels": {"zone": 1}}]"#, "expected a string"),
        ] {
            let error = parse(body, &Locality::default()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body, &Locality::default());
        }
    }
}
