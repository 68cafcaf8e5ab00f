//! Which policies hold for a service: of its port over its own, over its
//! namespace's default, over the file's. Of two for the same, the older one.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
};

use super::{Memory, Object, Outcome, Standing, Subjects, Verdict, candidate::Candidate};
use crate::{config::PolicyBlock, kubernetes::Key, model};

/// What stands under what, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The namespace's.
    Default,
    Service,
    Port,
}

/// A service by its place, and a port of it; `None` is the whole service.
pub type Part = (usize, Option<Port>);

type Port = (NonZeroU16, model::Transport);

/// Which policies hold in a namespace, each with its name.
#[derive(Default)]
pub struct Namespace {
    pub default: Option<(Key, PolicyBlock)>,
    pub own: BTreeMap<Part, (Key, PolicyBlock)>,
}

impl Namespace {
    /// What stands under the policy of this part.
    pub fn under(&self, (place, port): Part) -> PolicyBlock {
        let block = |held: &(Key, PolicyBlock)| held.1.clone();
        let default = self.default.as_ref().map(block).unwrap_or_default();
        let service = port.and_then(|_| self.own.get(&(place, None)));
        service.map_or(default.clone(), |(_, service)| service.over(&default))
    }
}

/// `policies` stand in the order of their seniority.
pub fn attach(
    subjects: &mut Subjects<'_>,
    policies: &[&Arc<Object>],
    file: &PolicyBlock,
    memory: &mut Memory,
) -> Vec<Verdict> {
    let mut namespaces: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for object in policies {
        let own = namespaces.entry(&object.key.namespace).or_default();
        own.push(Candidate::read(object, memory));
    }
    let mut verdicts = Vec::with_capacity(policies.len());
    for (name, mut candidates) in namespaces {
        let namespace = settle(&mut candidates, subjects, file, memory);
        put(subjects, name, &namespace, file);
        let mut held: BTreeMap<&Key, BTreeSet<usize>> = BTreeMap::new();
        for ((place, _), (policy, _)) in &namespace.own {
            held.entry(policy).or_default().insert(*place);
        }
        for candidate in candidates {
            candidate.remember(memory);
            let places = held.remove(&candidate.object.key).unwrap_or_default();
            let services = places.into_iter().map(|place| subjects.spec(place).name.clone());
            let standing =
                Standing { accepted: candidate.accepted(), services: services.collect() };
            let object = Arc::clone(candidate.object);
            verdicts.push(Verdict { object, outcome: Outcome::Policy(standing) });
        }
    }
    verdicts
}

/// Who holds what. A policy is judged over those that stand under it, so these
/// are settled first; where one doesn't fit, its last good spec takes its place
/// from the start. Each does so once, so it ends.
fn settle(
    candidates: &mut [Candidate<'_>],
    subjects: &Subjects<'_>,
    file: &PolicyBlock,
    memory: &Memory,
) -> Namespace {
    'again: loop {
        let mut namespace = Namespace::default();
        candidates.iter_mut().for_each(Candidate::begin);
        for level in [Level::Default, Level::Service, Level::Port] {
            let mut fell_back = false;
            for candidate in &mut *candidates {
                fell_back |= candidate.claim(level, &mut namespace, subjects, file, memory);
            }
            if fell_back {
                continue 'again;
            }
        }
        return namespace;
    }
}

/// Puts the policies of a namespace into its services.
fn put(subjects: &mut Subjects<'_>, name: &str, namespace: &Namespace, file: &PolicyBlock) {
    let nothing = PolicyBlock::default();
    let default = namespace.default.as_ref().map_or(&nothing, |(_, block)| block);
    let mut places: BTreeSet<usize> = namespace.own.keys().map(|&(place, _)| place).collect();
    if namespace.default.is_some() {
        places.extend(subjects.of_namespace(name));
    }
    for place in places {
        let own = namespace.own.get(&(place, None)).map_or(&nothing, |(_, block)| block);
        let own = own.over(default);
        let ports = (namespace.own.range((place, None)..))
            .take_while(|((other, _), _)| *other == place)
            .filter_map(|((_, port), (_, block))| Some(((*port)?, block.over(&own))));
        let spec = subjects.spec(place);
        let ports: BTreeMap<Port, Arc<model::Policy>> = ports
            .map(|(port, block)| (port, Arc::new(merged(&block, file, &spec.policy))))
            .collect();
        let policy = model::Policy { ports, ..merged(&own, file, &spec.policy) };
        subjects.spec_mut(place).policy = Arc::new(policy);
    }
}

/// What the Service itself says (session affinity, traffic distribution) stands
/// where no policy of the cluster says otherwise.
fn merged(block: &PolicyBlock, file: &PolicyBlock, service: &model::Policy) -> model::Policy {
    let mut policy = block.over(file).model();
    if !block.says("sessionAffinity") {
        policy.session_affinity = service.session_affinity;
    }
    if !block.says("locality") {
        policy.locality = service.locality;
    }
    policy
}
