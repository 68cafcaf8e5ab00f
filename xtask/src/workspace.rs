//! Where things are: the root of the repository and cargo's target folder.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The repository's root. Asked of cargo first: a binary that was compiled
/// before the folder moved still carries the old place.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(Path::to_owned).unwrap_or(package)
}

/// cargo's target folder, wherever `CARGO_TARGET_DIR` or a configuration file
/// put it: this very program stands in it.
pub fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("can't tell where xtask itself is")?;
    program
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .with_context(|| format!("{} is not in a target folder of cargo", program.display()))
}
