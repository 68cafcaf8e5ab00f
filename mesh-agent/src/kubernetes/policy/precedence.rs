//! Which policies hold for a service: of its port over its own, over its
//! namespace's default, over the file's. Of two for the same, the older one.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value;

use super::{Memory, Object, Outcome, Ruling, Subjects, Verdict};
use crate::{config::PolicyBlock, kubernetes::Key, model};

/// A policy's spec, read.
#[derive(Clone, Debug)]
struct Policy {
    targets: Vec<Target>,
    block: PolicyBlock,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    group: String,
    #[serde(default = "service")]
    kind: String,
    name: String,
    #[serde(default)]
    section_name: Option<String>,
}

fn service() -> String {
    "Service".to_owned()
}

/// Of a namespace: its default, and what its services have of their own.
#[derive(Default)]
struct Namespace {
    default: Option<(Key, PolicyBlock)>,
    /// By place and port; `None` is the whole service.
    own: BTreeMap<(usize, Option<NonZeroU16>), (Key, PolicyBlock)>,
}

/// `policies` stand in the order of their seniority.
pub fn attach(
    subjects: &mut Subjects<'_>,
    policies: &[&Arc<Object>],
    file: &PolicyBlock,
    memory: &mut Memory,
) -> Vec<Verdict> {
    let mut namespaces: BTreeMap<&str, Namespace> = BTreeMap::new();
    let mut rulings: Vec<Vec<Ruling>> = Vec::with_capacity(policies.len());
    let mut read = Vec::with_capacity(policies.len());
    // Defaults first: what stands under a service's own policy is judged with it.
    for object in policies {
        let found = memory.read(object, spec);
        let mut ruling: Vec<_> =
            found.wrong.map(|wrong| Ruling::no("Invalid", wrong)).into_iter().collect();
        let namespace = namespaces.entry(&object.key.namespace).or_default();
        match &found.value {
            Some(policy) if policy.targets.is_empty() => match &namespace.default {
                Some((older, _)) => ruling.push(conflict("the namespace's default", older)),
                None => namespace.default = Some((object.key.clone(), policy.block.clone())),
            },
            _ => {}
        }
        rulings.push(ruling);
        read.push(found.value);
    }
    for ((object, policy), rulings) in policies.iter().zip(&read).zip(&mut rulings) {
        let Some(policy) = policy else { continue };
        let namespace = namespaces.entry(&object.key.namespace).or_default();
        for target in &policy.targets {
            if let Err(ruling) = claim(subjects, namespace, object, policy, target, file) {
                rulings.push(ruling);
            }
        }
    }
    for (name, namespace) in &namespaces {
        put(subjects, name, namespace, file);
    }
    let verdict = |((object, policy), rulings): ((&&Arc<Object>, &Option<Policy>), Vec<Ruling>)| {
        let targets = policy.as_ref().map_or(0, |policy| policy.targets.len());
        Verdict {
            object: Arc::clone(object),
            outcome: Outcome::Policy(accepted(targets, &rulings)),
        }
    };
    policies.iter().zip(&read).zip(rulings).map(verdict).collect()
}

/// Reads a spec: the targets, and the block as the file has it.
fn spec(spec: &Value) -> Result<Policy, String> {
    let mut block = match spec {
        Value::Object(block) => block.clone(),
        Value::Null => serde_json::Map::new(),
        _ => return Err("spec: must be a mapping".to_owned()),
    };
    let targets = match block.remove("targetRefs") {
        None => Vec::new(),
        Some(targets) => serde_json::from_value::<Vec<Target>>(targets)
            .map_err(|error| format!("spec.targetRefs: {error}"))?,
    };
    for (index, target) in targets.iter().enumerate() {
        if !target.group.is_empty() || target.kind != "Service" {
            return Err(format!(
                "spec.targetRefs[{index}]: can only be a `Service` (of the group \"\"), not `{}`",
                target.kind
            ));
        }
    }
    let block = PolicyBlock::read(&Value::Object(block)).map_err(|wrong| in_words(&wrong))?;
    Ok(Policy { targets, block })
}

/// One line for each problem; a resource has no lines to point to.
fn in_words(problems: &crate::config::Problems) -> String {
    const MOST: usize = 10;
    let all = problems.problems.iter();
    let mut lines: Vec<String> = all
        .take(MOST)
        .map(|problem| format!("spec.{}: {}", problem.path, problem.message))
        .collect();
    let more = problems.problems.len().saturating_sub(MOST) + problems.omitted;
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// Takes a target for a policy, if it is there and free.
fn claim(
    subjects: &Subjects<'_>,
    namespace: &mut Namespace,
    object: &Object,
    policy: &Policy,
    target: &Target,
    file: &PolicyBlock,
) -> Result<(), Ruling> {
    let missing = |message: String| Ruling::no("TargetNotFound", message);
    let key = Key::new(&object.key.namespace, &target.name);
    let (service, place) = subjects.find(&key).ok_or_else(|| {
        missing(format!("there is no Service `{}` in this namespace", target.name))
    })?;
    let place = place.ok_or_else(|| {
        missing(format!(
            "the Service `{}` is no service of the mesh: is its namespace captured?",
            target.name
        ))
    })?;
    let spec = subjects.spec(place);
    let (port, ports) = match &target.section_name {
        None => (None, spec.ports.clone()),
        Some(name) => {
            let named = service.ports.iter().find(|port| *port.name == **name);
            let number = named.map(|port| port.port).ok_or_else(|| {
                missing(format!("the Service `{}` has no port named `{name}`", target.name))
            })?;
            let ports = spec.ports.iter().filter(|port| port.port == number);
            (Some(number), ports.copied().collect())
        }
    };
    let what = match &target.section_name {
        None => format!("Service `{}`", target.name),
        Some(name) => format!("port `{name}` of Service `{}`", target.name),
    };
    match namespace.own.get(&(place, port)) {
        // Named twice by the same policy.
        Some((older, _)) if *older == object.key => return Ok(()),
        Some((older, _)) => return Err(conflict(&what, older)),
        None => {}
    }
    let under = under(namespace, file);
    policy
        .block
        .check_service(&ports, spec.path, &under)
        .map_err(|wrong| Ruling::no("Invalid", format!("for {what}: {}", in_words(&wrong))))?;
    namespace.own.insert((place, port), (object.key.clone(), policy.block.clone()));
    Ok(())
}

fn under(namespace: &Namespace, file: &PolicyBlock) -> PolicyBlock {
    namespace.default.as_ref().map_or_else(|| file.clone(), |(_, default)| default.over(file))
}

fn conflict(what: &str, older: &Key) -> Ruling {
    Ruling::no("Conflicted", format!("{what} has an older MeshPolicy, `{}`", older.name))
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
        let ports: BTreeMap<NonZeroU16, Arc<model::Policy>> = ports
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

/// The rulings of all targets as one.
fn accepted(targets: usize, rulings: &[Ruling]) -> Ruling {
    let Some(first) = rulings.first() else {
        return Ruling::yes(
            "Accepted",
            match targets {
                0 => "it is its namespace's default".to_owned(),
                1 => "it holds for its target".to_owned(),
                n => format!("it holds for its {n} targets"),
            },
        );
    };
    let words: Vec<&str> = rulings.iter().map(|ruling| ruling.message.as_str()).collect();
    let mut message = words.join("\n");
    let held = targets.saturating_sub(rulings.len());
    if held > 0 && first.reason != "Invalid" {
        message = format!("{message}\nit holds for its other targets");
    }
    Ruling::no(first.reason, message)
}
