//! What the commands need from the parts that don't run in them: one thin
//! function each, so that a command's file has only the command in it.

use std::path::{Path, PathBuf};

use super::preflight::Finding;
use crate::model::Settings;

/// The file, validated; or all its problems, each a text of its own.
pub fn load(path: &Path) -> Result<Settings, Vec<String>> {
    Err(vec![format!("{}: the configuration is not connected", path.display())])
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
