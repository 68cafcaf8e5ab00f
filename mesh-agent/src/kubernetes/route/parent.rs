//! Which services of the mesh a route's parents are.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use serde_json::Value;

use super::wire::{ParentRef, Spec};
use crate::{
    kubernetes::{
        Key,
        policy::{GATEWAY, Kind, Object, Ruling, Subjects},
    },
    model::{Port, Protocol},
};

/// By a service's place and port: the kind of route that has it.
pub type Held = BTreeMap<(usize, NonZeroU16), Kind>;

/// A service and those of its ports that a route holds for.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub service: usize,
    /// One at least.
    pub ports: Vec<NonZeroU16>,
}

/// Its parents that are ours, as the route has them; others are other
/// controllers' business.
pub fn parents(object: &Object) -> Vec<(Value, ParentRef)> {
    let spec: Spec = serde_json::from_value(object.spec.clone()).unwrap_or_default();
    let read = spec.parent_refs.into_iter().filter_map(|reference| {
        let parent: ParentRef = serde_json::from_value(reference.clone()).ok()?;
        let group = parent.group.as_deref().unwrap_or(GATEWAY);
        let ours = group.is_empty() && parent.kind.as_deref() == Some("Service");
        ours.then_some((reference, parent))
    });
    read.collect()
}

fn key(object: &Object, parent: &ParentRef) -> Key {
    Key::new(parent.namespace.as_deref().unwrap_or(&object.key.namespace), &parent.name)
}

/// Where a parent is, if it may be had.
pub fn place(
    subjects: &Subjects<'_>,
    object: &Object,
    parent: &ParentRef,
) -> Result<Place, Ruling> {
    let key = key(object, parent);
    let namespace = &*key.namespace;
    if namespace != &*object.key.namespace {
        let message = format!(
            "Service `{key}` is in another namespace: routes for the clients of their own \
             namespace (consumer routes) are not supported"
        );
        return Err(Ruling::no("NotAllowedByListeners", message));
    }
    let missing = |why: &str| Ruling::no("NoMatchingParent", format!("Service `{key}`: {why}"));
    let (service, place) = subjects.find(&key).ok_or_else(|| missing("it isn't there"))?;
    let place = place.ok_or_else(|| {
        missing("it is no service of the mesh: is its namespace captured, and has it ports?")
    })?;
    let spec = subjects.spec(place);
    if spec.addresses.is_empty() {
        return Err(missing("it has no ClusterIP, by which its requests would be known"));
    }
    let asked = service.ports.iter().filter(|port| {
        parent.port.is_none_or(|number| number == port.port.get())
            && parent.section_name.as_deref().is_none_or(|name| name == &*port.name)
    });
    let asked: BTreeSet<NonZeroU16> = asked.map(|port| port.port).collect();
    if asked.is_empty() {
        return Err(missing("it has no such port"));
    }
    let http = |port: &&Port| {
        asked.contains(&port.port) && (port.protocol.is_http() || port.protocol == Protocol::Auto)
    };
    let ports: BTreeSet<NonZeroU16> = spec.ports.iter().filter(http).map(|p| p.port).collect();
    if ports.is_empty() {
        return Err(missing(
            "its port speaks another protocol than HTTP, by `appProtocol` or by the port's name",
        ));
    }
    Ok(Place { service: place, ports: ports.into_iter().collect() })
}

/// Takes the ports that no route of another kind has.
pub fn hold(
    place: Place,
    object: &Object,
    parent: &ParentRef,
    held: &mut Held,
) -> Result<Place, Ruling> {
    let Place { service, mut ports } = place;
    ports.retain(|port| *held.entry((service, *port)).or_insert(object.kind) == object.kind);
    if ports.is_empty() {
        let key = key(object, parent);
        let message = format!("Service `{key}` has a GRPCRoute, which comes before HTTPRoutes");
        return Err(Ruling::no("Conflicted", message));
    }
    Ok(Place { service, ports })
}
