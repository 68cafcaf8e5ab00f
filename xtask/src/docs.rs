//! `cargo xtask docs`: the reference pages that are written by the agent
//! itself, so that no default, metric or option stands in two places.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    build, process,
    setup::{self, Purpose},
    workspace,
};

/// Rewrite the generated pages under docs/ from the agent that is built here.
#[derive(Debug, Clone, Copy, Args)]
pub struct Arguments {}

/// What `mesh-agent reference TOPIC` prints, and the page that holds it.
pub const PAGES: [(&str, &str); 4] = [
    ("config", "docs/configuration.md"),
    ("metrics", "docs/metrics.md"),
    ("cli", "docs/cli.md"),
    ("reasons", "docs/reasons.md"),
];

pub fn write() -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let agent = build::agent(false)?;
    for (topic, page) in PAGES {
        let path = workspace::root().join(page);
        let text = reference(&agent, topic)?;
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            println!("{page}: unchanged");
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        println!("{page}: written");
    }
    Ok(())
}

/// The page on this topic, as this agent writes it.
pub fn reference(agent: &Path, topic: &str) -> Result<String> {
    let text = process::output(Command::new(agent).args(["reference", topic]))?;
    if text.trim().is_empty() {
        anyhow::bail!("`mesh-agent reference {topic}` printed nothing");
    }
    Ok(text)
}
