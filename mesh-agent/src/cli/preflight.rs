//! `mesh-agent preflight`

use std::path::PathBuf;

use serde::Serialize;

use super::{
    Verdict,
    output::{Output, Sign, table},
    unit,
};
use crate::{
    config,
    datapath::{self, Finding, State},
    model::Capture,
};

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
pub(super) struct Need {
    pub name: String,
    /// `ok`, `degraded` or `missing`.
    pub state: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty where all is well.
    pub todo: String,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let Capture { pins, cgroups, .. } = match &args.config {
        None => Capture::default(),
        Some(file) => config::load(file)?.capture,
    };
    let findings = datapath::preflight(&pins, &cgroups);
    let needs: Vec<Need> = findings.iter().map(need).collect();
    args.output.print(&needs[..], |_| text(&findings))?;
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { Verdict::No } else { Verdict::Yes })
}

fn need(finding: &Finding) -> Need {
    Need {
        name: finding.name.to_owned(),
        state: finding.state.name(),
        detail: finding.detail.clone(),
        todo: finding.todo.clone(),
    }
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
            [state, finding.name.to_owned(), finding.detail.clone(), finding.todo.clone()]
        }),
    );
    let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
    text += &match missing {
        0 => format!("\n{} ready: the agent can run here\n", Sign::Good),
        some => format!("\n{} not ready: {}\n", Sign::Bad, unit::of(some, "missing need")),
    };
    text
}
