//! What the cluster says about how its Services are treated: `MeshPolicy`, and
//! Gateway API's routes (`super::route`).
//!
//! [`attach`] is a pure function of what was watched. It changes services and
//! says what became of each resource; who carries that out, and who writes it
//! into statuses, is for others.

mod candidate;
mod crd;
mod follow;
mod grant;
mod memory;
mod object;
mod precedence;
mod spec;
mod structural;
#[cfg(test)]
mod tests;
mod verdict;
mod watched;

use std::{collections::HashMap, sync::Arc};

pub use crd::crd;
pub(super) use follow::{Watches, start};
pub use grant::ReferenceGrant;
pub use memory::Memory;
pub use object::{GATEWAY, GrpcRoute, HttpRoute, Kind, MeshPolicy, Object};
#[cfg(test)]
pub(super) use tests::World;
pub use verdict::{Outcome, Parent, Ruling, Standing, Verdict};
pub use watched::LeftOut;
pub(super) use watched::{Kept, Policies};

use super::{Key, Service, route};
use crate::{config::PolicyBlock, model::ServiceSpec};

/// What was watched.
pub struct Cluster<'a> {
    /// All that are known, whether they are services of the mesh or not.
    pub services: Vec<&'a Service>,
    /// In any order.
    pub objects: &'a [Arc<Object>],
    pub grants: &'a [Arc<ReferenceGrant>],
    /// What stands under all: the file's `defaults.policy`.
    pub defaults: &'a PolicyBlock,
}

/// Attaches policies and routes to the services that they name. `services` are
/// those that nobody wrote down, named `NAME.NAMESPACE`: what the file says of a
/// service is the file's.
pub fn attach(
    services: &mut [ServiceSpec],
    cluster: &Cluster<'_>,
    memory: &mut Memory,
) -> Vec<Verdict> {
    memory.retain(cluster.objects.iter().map(AsRef::as_ref));
    let mut objects: Vec<&Arc<Object>> = cluster.objects.iter().collect();
    objects.sort_by(|a, b| (a.kind, a.seniority()).cmp(&(b.kind, b.seniority())));
    let mut subjects = Subjects::new(services, &cluster.services);
    let (policies, routes): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.kind == Kind::MeshPolicy);
    let mut verdicts = precedence::attach(&mut subjects, &policies, cluster.defaults, memory);
    verdicts.extend(route::attach(&mut subjects, &routes, cluster.grants, memory));
    verdicts
}

/// Services of the cluster, with what the mesh makes of them.
pub(super) struct Subjects<'a> {
    specs: &'a mut [ServiceSpec],
    by_key: HashMap<&'a Key, (&'a Service, Option<usize>)>,
}

impl<'a> Subjects<'a> {
    fn new(specs: &'a mut [ServiceSpec], services: &[&'a Service]) -> Self {
        let mut places: HashMap<Key, usize> = HashMap::new();
        for (place, spec) in specs.iter().enumerate() {
            // Neither part has a dot in it.
            if let Some((name, namespace)) = spec.name.as_str().split_once('.') {
                places.insert(Key::new(namespace, name), place);
            }
        }
        let by_key = services.iter().map(|&service| {
            let place = places.get(&service.key).copied();
            (&service.key, (service, place))
        });
        Self { by_key: by_key.collect(), specs }
    }

    /// A Service, and what the mesh makes of it, if anything.
    pub fn find(&self, key: &Key) -> Option<(&'a Service, Option<usize>)> {
        self.by_key.get(key).copied()
    }

    pub fn spec(&self, place: usize) -> &ServiceSpec {
        &self.specs[place]
    }

    pub fn spec_mut(&mut self, place: usize) -> &mut ServiceSpec {
        &mut self.specs[place]
    }

    /// Those of a namespace that are services of the mesh.
    pub fn of_namespace(&self, namespace: &str) -> Vec<usize> {
        let own = self.by_key.iter().filter(|(key, _)| *key.namespace == *namespace);
        own.filter_map(|(_, (_, place))| *place).collect()
    }
}
