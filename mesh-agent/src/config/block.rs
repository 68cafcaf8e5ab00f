//! Blocks of the file that come from somewhere else: a policy that is the spec
//! of a Kubernetes resource, a route made of another one's rules. The same
//! types, schema and checks hold for them, so that there is one model only.

use serde_json::Value;

use super::{
    node::{Entry, Item, Kind, Node, Position},
    problem::Problems,
    raw::{Over, Policy, Route},
    schema, shape, validate,
};
use crate::model;

/// A `policy` block: what is written, not yet merged with anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyBlock(Policy);

impl PolicyBlock {
    /// Reads a block; paths begin at it. What its keys say together is for the
    /// checks below: it depends on what stands under it.
    pub fn read(block: &Value) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match decode::<Policy>("Policy", block, &mut problems).0 {
            Some(policy) if problems.is_empty() => Ok(Self(policy)),
            _ => Err(problems),
        }
    }

    /// What stands here, and key by key what stands under it.
    pub fn over(&self, under: &Self) -> Self {
        Self(self.0.over(&under.0))
    }

    /// With the model's defaults for what isn't written.
    pub fn model(&self) -> model::Policy {
        self.0.model()
    }

    /// Whether it has this key.
    pub fn says(&self, key: &str) -> bool {
        self.written().get(key).is_some()
    }

    /// As it could be written, in full.
    pub fn written(&self) -> Value {
        serde_json::to_value(&self.0).expect("a policy is text, numbers and mappings by text")
    }

    /// What makes no sense of this block as a default over `under`, which does.
    pub fn check_default(&self, under: &Self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        let tree = node(&self.written());
        let mut reporter = validate::Reporter::new(&tree, &mut problems);
        validate::default_policy(&self.0.over(&under.0), &mut reporter);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// What makes no sense of this block over `under`, or what a service with
    /// these ports can't keep of it.
    pub fn check_service(
        &self,
        ports: &[model::Port],
        path: model::PathChoice,
        under: &Self,
    ) -> Result<(), Problems> {
        let mut problems = Problems::default();
        let at = Position::START;
        let policy = Entry { key: "policy".into(), at, node: node(&self.written()) };
        let tree = Node { at, kind: Kind::Map(vec![policy]) };
        let mut reporter = validate::Reporter::new(&tree, &mut problems);
        validate::policy_of_service(&self.0, ports, path, &under.0, &mut reporter);
        for problem in &mut problems.problems {
            if let Some(path) = problem.path.strip_prefix("policy.") {
                problem.path = path.to_owned();
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl From<Policy> for PolicyBlock {
    fn from(policy: Policy) -> Self {
        Self(policy)
    }
}

/// A route of the file's form without backends, which are the caller's.
pub fn route(route: &Value) -> Result<model::Route, Problems> {
    let mut problems = Problems::default();
    let (raw, tree) = decode::<Route>("Route", route, &mut problems);
    if let Some(raw) = raw {
        validate::route_block(&raw, &mut validate::Reporter::new(&tree, &mut problems));
        if problems.is_empty()
            && let Some(model) = raw.model(0, None)
        {
            return Ok(model);
        }
    }
    Err(problems)
}

/// JSON Schema of a `policy` block, with what it refers to under `$defs`.
pub fn policy_schema() -> Value {
    let mut policy = schema::definition("Policy").clone();
    policy["$defs"] = schema::shared()["$defs"].clone();
    policy
}

/// `None` where it can't be decoded, which is among the problems.
fn decode<T: serde::de::DeserializeOwned>(
    definition: &str,
    value: &Value,
    problems: &mut Problems,
) -> (Option<T>, Node) {
    let tree = shape::check_as(schema::definition(definition), node(value), problems);
    match serde_json::from_value(tree.to_json()) {
        Ok(raw) => (Some(raw), tree),
        Err(error) => {
            problems.push(tree.at, "(block)", format!("can't be decoded: {error}"));
            (None, tree)
        }
    }
}

/// A tree without places: JSON from an API has no lines to point to.
fn node(value: &Value) -> Node {
    let kind = match value {
        Value::Null => Kind::Null,
        Value::Bool(value) => Kind::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Kind::Integer(whole.into()),
            (None, Some(whole)) => Kind::Integer(whole.into()),
            (None, None) => Kind::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Kind::Text(text.clone()),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Kind::List(items.map(|(index, item)| Item { index, node: node(item) }).collect())
        }
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| Entry {
                key: key.clone(),
                at: Position::START,
                node: node(value),
            };
            Kind::Map(entries.iter().map(entry).collect())
        }
    };
    Node { at: Position::START, kind }
}
