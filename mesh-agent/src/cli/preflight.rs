//! `mesh-agent preflight`

use std::path::PathBuf;

use serde::Serialize;

use super::{
    Verdict,
    output::{Output, Sign, table},
    outside, unit,
};
use crate::model::Capture;

/// Checks whether this node has what the agent needs
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Checks whether this node has what the agent needs: kernel features, capabilities, \
cgroup v2, a bpffs, and other programs on the same hooks. Each finding says what to \
do. Nothing is changed. Exits with 1 where something is missing; what is degraded \
works with less.

Examples:
  sudo mesh-agent preflight
  sudo mesh-agent preflight --config mesh.yaml -o json")]
pub struct Args {
    /// Checks this file's cgroups and pins as well
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// One thing that the agent needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub name: String,
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty where all is well.
    pub todo: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Ok,
    /// Works with less.
    Degraded,
    /// Doesn't work without.
    Missing,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let Capture { pins, cgroups, .. } = match &args.config {
        None => Capture::default(),
        Some(file) => outside::settings(file)?.capture,
    };
    let findings = outside::preflight(&pins, &cgroups);
    args.output.print(&findings[..], text)?;
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { Verdict::No } else { Verdict::Yes })
}

pub(super) fn text(findings: &[Finding]) -> String {
    let mut text = table(
        ["STATE", "NEED", "FOUND", "WHAT TO DO"],
        findings.iter().map(|finding| {
            let state = match finding.state {
                State::Ok => format!("{} ok", Sign::Good),
                State::Degraded => format!("{} degraded", Sign::Warning),
                State::Missing => format!("{} missing", Sign::Bad),
            };
            [state, finding.name.clone(), finding.detail.clone(), finding.todo.clone()]
        }),
    );
    let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
    text += &match missing {
        0 => format!("\n{} ready: the agent can run here\n", Sign::Good),
        some => format!("\n{} not ready: {}\n", Sign::Bad, unit::of(some, "missing need")),
    };
    text
}
