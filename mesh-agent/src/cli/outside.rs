//! What the commands need from the parts that don't run in them: one thin
//! function each, so that a command's file has only the command in it.

use std::path::{Path, PathBuf};

use super::{check::Problem, preflight::Finding};
use crate::model::Settings;

/// The file, validated; or all its problems.
pub fn load(_path: &Path) -> Result<Settings, Vec<Problem>> {
    Err(vec![Problem::whole("the configuration is not connected")])
}

/// As [`load`], for commands that can't go on without it.
pub fn settings(path: &Path) -> anyhow::Result<Settings> {
    load(path).map_err(|problems| {
        let file = path.display().to_string();
        let lines: Vec<_> = problems.iter().map(|problem| problem.in_file(&file)).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

/// The JSON Schema of the file.
pub fn schema() -> serde_json::Value {
    serde_json::json!({})
}

/// What the node has of what the agent needs.
pub fn preflight(_pins: &Path, _cgroups: &[PathBuf]) -> Vec<Finding> {
    Vec::new()
}

/// Detaches and removes what is pinned under `pins`; says what was removed.
pub fn uninstall(pins: &Path) -> anyhow::Result<Vec<String>> {
    anyhow::bail!("cannot remove {}: the datapath is not connected", pins.display())
}
