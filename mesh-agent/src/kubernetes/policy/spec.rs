//! The spec of a `MeshPolicy`: targets, and a `policy` block as the file has it.

use serde::Deserialize;
use serde_json::Value;

use super::precedence::Level;
use crate::config::{PolicyBlock, Problems};

/// A policy's spec, read.
#[derive(Clone, Debug)]
pub struct Policy {
    pub targets: Vec<Target>,
    pub block: PolicyBlock,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    #[serde(default)]
    group: String,
    #[serde(default = "service")]
    kind: String,
    pub name: String,
    #[serde(default)]
    /// A port's name.
    pub section_name: Option<String>,
}

impl Target {
    pub fn level(&self) -> Level {
        match self.section_name {
            None => Level::Service,
            Some(_) => Level::Port,
        }
    }
}

fn service() -> String {
    "Service".to_owned()
}

/// Reads a spec: the targets, and the block as the file has it.
pub fn spec(spec: &Value) -> Result<Policy, String> {
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
pub fn in_words(problems: &Problems) -> String {
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
