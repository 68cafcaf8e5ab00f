//! Which instances a Service has.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZeroU16,
    sync::{Arc, LazyLock},
};

use super::super::{Conditions, Distribution, Endpoint, Service, ServiceKind, ServicePort, Slice};
use crate::model::{Instance, KubernetesPort, Locality, Serves, Weight};

/// Empty is unknown.
pub(in crate::kubernetes) type RegionAndZone = (Arc<str>, Arc<str>);

/// Where this node is, and where others are.
pub(in crate::kubernetes) struct Place<'a> {
    /// Empty is unknown, as the zone.
    pub node: &'a str,
    pub zone: &'a str,
    pub cloud: &'a str,
    /// A node's region and zone.
    pub of_node: &'a dyn Fn(&str) -> RegionAndZone,
    /// A zone's region, by the nodes that are in it.
    pub of_zone: &'a dyn Fn(&str) -> Arc<str>,
}

/// The instances of one port, or of all, of a Service: what its slices name,
/// merged, each once. `Err` says in words why there is no such port.
pub(in crate::kubernetes) fn instances(
    service: &Service,
    slices: &[&Slice],
    port: Option<&KubernetesPort>,
    place: &Place<'_>,
) -> Result<Arc<[Instance]>, String> {
    if let ServiceKind::ExternalName(name) = &service.kind {
        return Err(format!("it is an alias of {name}: use `endpoints.dns` with that name"));
    }
    let several = service.ports.len() > 1 && port.is_none();
    let mut found = BTreeMap::new();
    for port in chosen(service, port)? {
        let serves = several.then_some(Serves { port: port.port, transport: port.transport });
        let endpoints = usable(service, &endpoints(slices.iter().copied(), port), place);
        for (number, endpoint) in endpoints {
            let key = (serves, endpoint.address, number);
            found.entry(key).or_insert_with(|| instance(key, endpoint, service, place));
        }
    }
    Ok(found.into_values().collect())
}

fn chosen<'a>(
    service: &'a Service,
    port: Option<&KubernetesPort>,
) -> Result<&'a [ServicePort], String> {
    let fits = |one: &ServicePort| match port {
        None => true,
        Some(KubernetesPort::Name(name)) => one.name == *name,
        Some(KubernetesPort::Number(number)) => one.port == *number,
    };
    match (port, service.ports.iter().position(fits)) {
        (None, _) => Ok(&service.ports),
        (Some(_), Some(at)) => Ok(&service.ports[at..=at]),
        (Some(_), None) => {
            let ports: Vec<_> = service.ports.iter().map(ToString::to_string).collect();
            Err(format!("it has no such port; it has: {}", ports.join(", ")))
        }
    }
}

/// What slices name for a port, with the port's number there: it may differ
/// from slice to slice where pods name their ports.
fn endpoints<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    port: &ServicePort,
) -> Vec<(NonZeroU16, &'a Endpoint)> {
    let mut found = Vec::new();
    for slice in slices {
        let own = slice.ports.iter();
        let own = own.filter(|own| own.name == port.name && own.transport == port.transport);
        for own in own {
            found.extend(slice.endpoints.iter().map(|endpoint| (own.port, endpoint)));
        }
    }
    found
}

/// Those that may be used from this node, by kube-proxy's rules: local ones
/// only where the Service says so; the ready, else those that still serve
/// while they end; and of the ready those that are meant for this zone.
fn usable<'a>(
    service: &Service,
    endpoints: &[(NonZeroU16, &'a Endpoint)],
    place: &Place<'_>,
) -> Vec<(NonZeroU16, &'a Endpoint)> {
    let here = |endpoint: &Endpoint| {
        !service.local || place.node.is_empty() || endpoint.node.as_deref() == Some(place.node)
    };
    let with = |conditions| {
        let all = endpoints.iter().copied();
        all.filter(move |(_, endpoint)| endpoint.conditions == conditions && here(endpoint))
    };
    let ready: Vec<_> = with(Conditions::Ready).collect();
    if ready.is_empty() {
        return with(Conditions::Ending).collect();
    }
    // With a distribution the nearest come first anyway, and unlike by hints
    // the others stand by. A Service for this node only has no zones.
    if service.distribution.is_some() || service.local {
        return ready;
    }
    hinted(&ready, place).unwrap_or(ready)
}

/// `None` where some endpoint has no hint, or none is meant for this zone: all
/// count then (the rule of `topology.kubernetes.io`'s safeguards).
fn hinted<'a>(
    ready: &[(NonZeroU16, &'a Endpoint)],
    place: &Place<'_>,
) -> Option<Vec<(NonZeroU16, &'a Endpoint)>> {
    let everywhere = ready.iter().all(|(_, endpoint)| !endpoint.for_zones.is_empty());
    if !everywhere || place.zone.is_empty() {
        return None;
    }
    let ours = |endpoint: &Endpoint| endpoint.for_zones.iter().any(|zone| **zone == *place.zone);
    let meant: Vec<_> = ready.iter().copied().filter(|(_, endpoint)| ours(endpoint)).collect();
    (!meant.is_empty()).then_some(meant)
}

fn instance(
    (serves, address, port): (Option<Serves>, IpAddr, NonZeroU16),
    endpoint: &Endpoint,
    service: &Service,
    place: &Place<'_>,
) -> Instance {
    /// All have none: routes tell Services apart, not pods.
    static NO_LABELS: LazyLock<Arc<BTreeMap<String, String>>> = LazyLock::new(Arc::default);
    let node = endpoint.node.as_deref().unwrap_or_default();
    let (mut region, zone) = (place.of_node)(node);
    let zone = endpoint.zone.as_ref().unwrap_or(&zone);
    if region.is_empty() && !zone.is_empty() {
        // No pod of this cluster's, perhaps, but in a zone of its nodes.
        region = (place.of_zone)(zone);
    }
    // A node is a tier of its own only where the Service asks for it: else the
    // instances on this node would have to carry all of its traffic.
    let own_node = service.distribution == Some(Distribution::SameNode);
    Instance {
        address,
        port: Some(port),
        serves,
        weight: Weight::default(),
        locality: Locality {
            cloud: place.cloud.to_owned(),
            region: region.to_string(),
            zone: zone.to_string(),
            node: if own_node { node.to_owned() } else { String::new() },
        }
        .shared(),
        priority: 0,
        labels: Arc::clone(&NO_LABELS),
    }
}
