//! Which services of the mesh a route's backends are.

use std::{num::NonZeroU16, sync::Arc};

use super::{rule, wire::BackendRef};
use crate::{
    kubernetes::{
        Key,
        policy::{ReferenceGrant, Ruling, Subjects},
    },
    model::{Filter, Labels, Protocol, RouteBackend, ServiceName, Transport},
};

/// Who refers, and what may be referred to.
pub struct Scope<'a> {
    pub route_kind: &'static str,
    pub namespace: &'a str,
    pub grants: &'a [Arc<ReferenceGrant>],
}

impl Scope<'_> {
    /// The backends of a rule, with the `filters` of each. Those that can't be
    /// resolved stand in with their weight, and `wrong` says why.
    pub fn backends(
        &self,
        references: &[BackendRef],
        filters: Vec<Vec<Filter>>,
        subjects: &Subjects<'_>,
        wrong: &mut Vec<Ruling>,
    ) -> Vec<RouteBackend> {
        let mut backends: Vec<RouteBackend> = references
            .iter()
            .zip(filters)
            .map(|(reference, mut filters)| {
                let weight = reference.weight.unwrap_or(RouteBackend::WEIGHT);
                self.mirrors(&mut filters, rule::mirrors(&reference.filters), subjects, wrong);
                match self.resolve(reference, subjects) {
                    Ok((service, port)) => {
                        RouteBackend { filters, ..backend(Some(service), Some(port), weight) }
                    }
                    Err(ruling) => {
                        wrong.push(ruling);
                        RouteBackend { unresolved: true, ..backend(None, None, weight) }
                    }
                }
            })
            .collect();
        // Nothing that a request could go to is an error, not the service itself.
        if backends.iter().all(|backend| backend.weight == 0) {
            backends.push(RouteBackend { unresolved: true, ..backend(None, None, 1) });
        }
        backends
    }

    /// Says of the mirrors among `filters` where they lead, by their
    /// `references`. Those that can't be resolved are left out, and `wrong` says why.
    pub fn mirrors<'a>(
        &self,
        filters: &mut Vec<Filter>,
        mut references: impl Iterator<Item = &'a BackendRef>,
        subjects: &Subjects<'_>,
        wrong: &mut Vec<Ruling>,
    ) {
        filters.retain_mut(|filter| {
            let Filter::Mirror(mirror) = filter else { return true };
            let Some(reference) = references.next() else { return false };
            match self.resolve(reference, subjects) {
                Ok((service, port)) => {
                    (mirror.service, mirror.port) = (Some(service), Some(port));
                    true
                }
                Err(ruling) => {
                    wrong.push(ruling);
                    false
                }
            }
        });
    }

    fn resolve(
        &self,
        reference: &BackendRef,
        subjects: &Subjects<'_>,
    ) -> Result<(ServiceName, NonZeroU16), Ruling> {
        let kind = reference.kind.as_deref().unwrap_or("Service");
        let group = reference.group.as_deref().unwrap_or_default();
        let namespace = reference.namespace.as_deref().unwrap_or(self.namespace);
        let key = Key::new(namespace, &reference.name);
        if kind != "Service" || !group.is_empty() {
            let message = format!("backend `{key}`: `{kind}` is not supported, only Service");
            return Err(Ruling::no("InvalidKind", message));
        }
        let granted =
            || self.grants.iter().any(|it| it.allows(self.route_kind, self.namespace, &key));
        if namespace != self.namespace && !granted() {
            let message = format!(
                "backend `{key}`: its namespace has no ReferenceGrant for {}s of `{}`",
                self.route_kind, self.namespace
            );
            return Err(Ruling::no("RefNotPermitted", message));
        }
        let missing = |why: &str| Ruling::no("BackendNotFound", format!("backend `{key}`: {why}"));
        let found = subjects.find(&key);
        let (_, place) = found.ok_or_else(|| missing("there is no such Service"))?;
        let place = place.ok_or_else(|| {
            missing("the Service is no service of the mesh: is its namespace captured?")
        })?;
        let spec = subjects.spec(place);
        let port = reference.port.and_then(NonZeroU16::new);
        let port = port.ok_or_else(|| missing("a Service needs a `port`"))?;
        let speaks = (spec.ports.iter())
            .find(|one| one.port == port && one.protocol.transport() == Transport::Tcp)
            .map(|one| one.protocol);
        match speaks {
            None => Err(missing(&format!("the Service has no TCP port {port}"))),
            Some(protocol) if protocol.is_http() || protocol == Protocol::Auto => {
                Ok((spec.name.clone(), port))
            }
            Some(_) => Err(Ruling::no(
                "UnsupportedProtocol",
                format!("backend `{key}`: its port {port} doesn't speak HTTP"),
            )),
        }
    }
}

fn backend(service: Option<ServiceName>, port: Option<NonZeroU16>, weight: u32) -> RouteBackend {
    let (subset, filters) = (Labels::default(), Vec::new());
    RouteBackend { service, port, subset, weight, filters, unresolved: false }
}
