//! `mesh-agent reload`

use super::{
    Ask, Verdict,
    output::{Output, Sign},
    unit,
};
use crate::admin::ReloadOutcome;

/// Has the agent read its configuration again
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Has the agent read its configuration again, and waits until it serves. A bad file \
is refused with all its problems (exit code 1), and the good one serves on.

Examples:
  mesh-agent reload
  mesh-agent check mesh.yaml && mesh-agent reload")]
pub struct Args {
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let outcome = ask.client(async |client| client.reload().await)?;
    args.output.print(&outcome, text)?;
    Ok(Verdict::Yes)
}

pub(super) fn text(outcome: &ReloadOutcome) -> String {
    let services = unit::of(usize::try_from(outcome.services).unwrap_or(usize::MAX), "service");
    let generation = outcome.generation;
    let what = if outcome.changed { "reloaded" } else { "unchanged" };
    let mut text = format!("{} {what}: {services}, generation {generation}\n", Sign::Good);
    for key in &outcome.needs_restart {
        text += &format!("{} {key} takes effect only after a restart\n", Sign::Warning);
    }
    text
}
