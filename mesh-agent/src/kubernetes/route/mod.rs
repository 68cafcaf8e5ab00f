//! Gateway API's `HTTPRoute` and `GRPCRoute` with a Service as their parent
//! (GAMMA): the service's requests go where the routes say.
//!
//! As the standard has it, a route replaces what the service did: what no rule
//! matches is answered with 404, and the share of a backend that can't be
//! resolved with 500. Host names of a route say nothing here. A `GRPCRoute`
//! comes before the `HTTPRoute`s of the same port.

mod backend;
mod duration;
mod parent;
mod rule;
#[cfg(test)]
mod tests;
mod wire;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
};

use serde_json::Value;

use super::policy::{
    Kind, Memory, Object, Outcome, Parent, ReferenceGrant, Ruling, Subjects, Verdict,
};
use crate::model::{Filter, Retry, Route, Transport};
use backend::Scope;
use parent::{Held, Place};
use rule::Rule;

/// Attaches routes to the services that are their parents. `objects` stand in
/// the order of their seniority.
pub fn attach(
    subjects: &mut Subjects<'_>,
    objects: &[&Arc<Object>],
    grants: &[Arc<ReferenceGrant>],
    memory: &mut Memory,
) -> Vec<Verdict> {
    let mut held = Held::new();
    let mut made: BTreeMap<usize, Made> = BTreeMap::new();
    let mut verdicts = Vec::with_capacity(objects.len());
    // A GRPCRoute says more of what is spoken than an HTTPRoute.
    let of = |kind| objects.iter().filter(move |object| object.kind == kind);
    for object in of(Kind::GrpcRoute).chain(of(Kind::HttpRoute)) {
        let read = memory.read(object, |spec| rules(object.kind, spec));
        let mut outcome = Vec::new();
        for (reference, parent) in parent::parents(object) {
            let mut place = parent::place(subjects, object, &parent);
            let mut resolved_refs = Ruling::no("Pending", "the rules can't be read");
            if let Some(rules) = &read.value {
                // What never made sense keeps no other route from its port.
                place = place.and_then(|place| parent::hold(place, object, &parent, &mut held));
                let mut wrong = Vec::new();
                let resolved = resolve(object, rules, subjects, grants, &mut wrong);
                resolved_refs = summary(&wrong);
                if let Ok(place) = &place {
                    let of_service = made.entry(place.service).or_default();
                    of_service.ports.extend(&place.ports);
                    of_service.routes.extend(routes(rules, &resolved, place, subjects));
                }
            }
            let accepted = match (place, &read.wrong) {
                (Err(ruling), _) => ruling,
                (Ok(_), Some(wrong)) => Ruling::no("UnsupportedValue", wrong.clone()),
                (Ok(_), None) => Ruling::yes("Accepted", "it holds for this parent"),
            };
            outcome.push(Parent { reference, accepted, resolved_refs });
        }
        verdicts.push(Verdict { object: Arc::clone(object), outcome: Outcome::Route(outcome) });
    }
    for (service, made) in made {
        subjects.spec_mut(service).routes = made.whole();
    }
    verdicts
}

/// What became of the routes of a service.
#[derive(Default)]
struct Made {
    /// That have routes at all, be they without rules.
    ports: BTreeSet<NonZeroU16>,
    routes: Vec<Route>,
}

impl Made {
    /// With what answers the requests that none takes.
    fn whole(mut self) -> Vec<Route> {
        // The last of all that rank alike.
        self.routes.push(Route {
            name: "no route".to_owned(),
            ports: self.ports.into_iter().collect(),
            hosts: Vec::new(),
            matches: Vec::new(),
            filters: vec![Filter::NotFound],
            backends: Vec::new(),
            timeout: None,
            retry: None,
        });
        self.routes
    }
}

/// Reads the rules of a spec.
fn rules(kind: Kind, spec: &Value) -> Result<Vec<Rule>, String> {
    let spec: wire::Spec =
        serde_json::from_value(spec.clone()).map_err(|error| format!("spec: {error}"))?;
    let rules = spec.rules.into_iter().enumerate().map(|(index, rule)| {
        let at = |why: String| format!("spec.rules[{index}]: {why}");
        let read = |error: serde_json::Error| at(format!("{error}; that is not supported"));
        match kind {
            Kind::GrpcRoute => Rule::grpc(serde_json::from_value(rule).map_err(read)?).map_err(at),
            _ => Rule::http(serde_json::from_value(rule).map_err(read)?).map_err(at),
        }
    });
    rules.collect()
}

/// Its rules with their backends and mirrors, wherever its parents are; `wrong`
/// says which of them aren't there.
fn resolve(
    object: &Object,
    rules: &[Rule],
    subjects: &Subjects<'_>,
    grants: &[Arc<ReferenceGrant>],
    wrong: &mut Vec<Ruling>,
) -> Vec<Route> {
    let (route_kind, namespace) = (object.kind.name(), &*object.key.namespace);
    let scope = Scope { route_kind, namespace, grants };
    let made = rules.iter().enumerate().map(|(index, rule)| {
        let mut route = rule.route.clone();
        route.name = format!("{} rule {index}", object.key);
        if !route.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_))) {
            scope.mirrors(&mut route.filters, rule::mirrors(&rule.filters), subjects, wrong);
            let filters = route.backends.iter_mut().map(|one| std::mem::take(&mut one.filters));
            let filters = filters.collect();
            route.backends = scope.backends(&rule.backends, filters, subjects, wrong);
        }
        route
    });
    made.collect()
}

/// Its rules as routes of one service: apart for ports whose policies differ in
/// what a rule's attempts go by.
fn routes(
    rules: &[Rule],
    resolved: &[Route],
    place: &Place,
    subjects: &Subjects<'_>,
) -> Vec<Route> {
    let policy = &subjects.spec(place.service).policy;
    let mut made = Vec::with_capacity(rules.len());
    for (rule, route) in rules.iter().zip(resolved) {
        let mut alike: Vec<(Option<Retry>, Vec<NonZeroU16>)> = Vec::new();
        for &port in &place.ports {
            let retry = rule.attempts(&policy.of(port, Transport::Tcp).retry);
            match alike.iter_mut().find(|(other, _)| *other == retry) {
                Some((_, ports)) => ports.push(port),
                None => alike.push((retry, vec![port])),
            }
        }
        let apart = alike.into_iter().map(|(retry, ports)| Route { retry, ports, ..route.clone() });
        made.extend(apart);
    }
    made
}

/// Of all backends.
fn summary(wrong: &[Ruling]) -> Ruling {
    let Some(first) = wrong.first() else {
        return Ruling::yes("ResolvedRefs", "all backends are there");
    };
    let words: BTreeSet<&str> = wrong.iter().map(|ruling| ruling.message.as_str()).collect();
    Ruling::no(first.reason, words.into_iter().collect::<Vec<_>>().join("\n"))
}
