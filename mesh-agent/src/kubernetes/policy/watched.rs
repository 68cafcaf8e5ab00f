//! What is known of policies and routes, and what became of them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Cluster, Kind, Memory, Object, Outcome, ReferenceGrant, Ruling, Verdict, attach};
use crate::{
    config::PolicyBlock,
    kubernetes::{Change, Key, Service},
    model::{Filter, Kubernetes, Route, ServiceName, ServiceSpec},
};

/// Stands in the cluster's state.
#[derive(Debug, Default)]
pub struct Policies {
    objects: BTreeMap<(Kind, Key), Arc<Object>>,
    grants: BTreeMap<Key, Arc<ReferenceGrant>>,
    memory: Memory,
    verdicts: Vec<Verdict>,
    /// Services whose clients are left alone, and that no route leads to.
    unvisited: HashSet<ServiceName>,
    /// Whether what they are about is in force here; in words why not.
    in_force: Option<Result<LeftOut, String>>,
}

/// The same, for the next run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    objects: Vec<Arc<Object>>,
    grants: Vec<Arc<ReferenceGrant>>,
    memory: Memory,
}

/// Services of the cluster that aren't served, each with the reason in words.
pub type LeftOut = BTreeMap<ServiceName, String>;

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Nothing,
    /// Somebody wrote a status.
    Status,
    /// Services are to be made anew.
    Spec,
}

impl Policies {
    pub fn object<K: Into<Object>>(&mut self, kind: Kind, change: Change<K>) -> News {
        match change {
            Change::Applied(object) => {
                let object = Arc::new(object.into());
                let before = self.objects.insert((kind, object.key.clone()), Arc::clone(&object));
                match before {
                    Some(before) if before.uid == object.uid && before.spec == object.spec => {
                        // What is judged is the generation.
                        if before.generation == object.generation {
                            News::Status
                        } else {
                            News::Spec
                        }
                    }
                    _ => News::Spec,
                }
            }
            Change::Deleted(key) => match self.objects.remove(&(kind, key)) {
                Some(_) => News::Spec,
                None => News::Nothing,
            },
            Change::Listed => News::Spec,
        }
    }

    pub fn grant(&mut self, change: Change<ReferenceGrant>) -> News {
        match change {
            Change::Applied(grant) => {
                let grant = Arc::new(grant);
                let before = self.grants.insert(grant.key.clone(), Arc::clone(&grant));
                if before.as_ref() == Some(&grant) { News::Nothing } else { News::Spec }
            }
            Change::Deleted(key) => {
                if self.grants.remove(&key).is_some() {
                    News::Spec
                } else {
                    News::Nothing
                }
            }
            Change::Listed => News::Nothing,
        }
    }

    /// The keys of all that is known of a kind.
    pub fn keys(&self, kind: Kind) -> HashSet<Key> {
        let own = self.objects.keys().filter(|(other, _)| *other == kind);
        own.map(|(_, key)| key.clone()).collect()
    }

    pub fn grant_keys(&self) -> HashSet<Key> {
        self.grants.keys().cloned().collect()
    }

    /// Attaches all to the services that nobody wrote down.
    pub fn attach<'a>(
        &mut self,
        specs: &mut [ServiceSpec],
        services: impl Iterator<Item = &'a Service>,
        settings: &Kubernetes,
    ) {
        let objects: Vec<_> = self.objects.values().cloned().collect();
        let grants: Vec<_> = self.grants.values().cloned().collect();
        // The file's checks have passed it.
        let defaults = PolicyBlock::read(&settings.policy_block).unwrap_or_default();
        let cluster = Cluster {
            services: services.collect(),
            objects: &objects,
            grants: &grants,
            defaults: &defaults,
        };
        self.verdicts = attach(specs, &cluster, &mut self.memory);
        self.unvisited = unvisited(specs);
        self.in_force = None;
    }

    /// What was attached is in force, or why it isn't.
    pub fn applied(&mut self, outcome: Result<LeftOut, String>) {
        self.in_force = Some(outcome);
    }

    /// Each verdict, with its resource as it stands, and whether it is in force.
    /// Empty until that is known.
    pub fn told(&self) -> Vec<(Verdict, Arc<Object>, Ruling)> {
        let Some(in_force) = &self.in_force else { return Vec::new() };
        let programmed = |verdict: &Verdict| match in_force {
            Ok(left_out) => self.programmed(verdict, left_out),
            Err(error) => Ruling::no("Pending", error.clone()),
        };
        let current = |verdict: &Verdict| {
            let place = (verdict.object.kind, verdict.object.key.clone());
            let object = self.objects.get(&place)?;
            // Of another one by the same name, nothing is known yet.
            (object.uid == verdict.object.uid)
                .then(|| (verdict.clone(), Arc::clone(object), programmed(verdict)))
        };
        self.verdicts.iter().filter_map(current).collect()
    }

    fn programmed(&self, verdict: &Verdict, left_out: &LeftOut) -> Ruling {
        let services = match &verdict.outcome {
            Outcome::Policy(standing) => &standing.services[..],
            Outcome::Route(_) => &[],
        };
        let idle = |service: &ServiceName| match left_out.get(service) {
            Some(why) => Some(format!("the mesh leaves {service} out: {why}")),
            None => self.unvisited.contains(service).then(|| {
                format!(
                    "{service} has no virtual address, so its clients' connections are left \
                     alone, and no route leads to it"
                )
            }),
        };
        let mut words: Vec<String> = services.iter().filter_map(idle).collect();
        if words.is_empty() {
            let message = "the agent that writes this has put it into force";
            return Ruling::yes("Programmed", message);
        }
        if words.len() < services.len() {
            words.push("it is in force for its other targets".to_owned());
        }
        Ruling::no("NoTraffic", words.join("\n"))
    }

    pub fn kept(&self) -> Kept {
        Kept {
            objects: self.objects.values().cloned().collect(),
            grants: self.grants.values().cloned().collect(),
            memory: self.memory.clone(),
        }
    }
}

/// Those that nobody's request comes to: without a virtual address (headless, or
/// another name's alias), and without a route that leads to them.
fn unvisited(specs: &[ServiceSpec]) -> HashSet<ServiceName> {
    let routes = specs.iter().flat_map(|spec| &spec.routes);
    let visited: HashSet<&ServiceName> = routes.flat_map(leads_to).collect();
    let hidden = specs.iter().filter(|spec| spec.addresses.is_empty());
    let hidden = hidden.filter(|spec| !visited.contains(&spec.name));
    hidden.map(|spec| spec.name.clone()).collect()
}

/// The services that get requests of a route, or copies of them.
fn leads_to(route: &Route) -> impl Iterator<Item = &ServiceName> {
    let filters = route.backends.iter().flat_map(|backend| &backend.filters);
    let mirrors = route.filters.iter().chain(filters).filter_map(|filter| match filter {
        Filter::Mirror(mirror) => mirror.service.as_ref(),
        _ => None,
    });
    route.backends.iter().filter_map(|backend| backend.service.as_ref()).chain(mirrors)
}

impl From<Kept> for Policies {
    fn from(kept: Kept) -> Self {
        let objects = kept.objects.into_iter().map(|one| ((one.kind, one.key.clone()), one));
        Self {
            objects: objects.collect(),
            grants: kept.grants.into_iter().map(|grant| (grant.key.clone(), grant)).collect(),
            memory: kept.memory,
            ..Self::default()
        }
    }
}
