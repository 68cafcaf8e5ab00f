//! `mesh-agent drain` and `mesh-agent undrain`

use super::{
    Ask, Verdict,
    output::{Output, Sign},
    unit,
};
use crate::admin::{DrainOutcome, DrainRequest};

/// Takes an instance out by hand: nothing new goes to it
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Takes an instance of a service out by hand (drain), or back in (undrain). Nothing \
new goes to a drained instance; what is under way goes on. It survives a reload and \
ends with the agent.

Examples:
  mesh-agent drain reviews 10.1.0.5:9080
  mesh-agent undrain reviews 10.1.0.5:9080")]
pub struct Args {
    /// The service's name
    service: String,
    /// The instance's address and port, as `mesh-agent endpoints` shows it
    #[arg(value_name = "ADDRESS:PORT")]
    endpoint: String,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask, drained: bool) -> anyhow::Result<Verdict> {
    let request =
        DrainRequest { service: args.service.clone(), endpoint: args.endpoint.clone(), drained };
    let outcome = ask.client(async |client| client.drain(&request).await)?;
    args.output.print(&outcome, text)?;
    Ok(Verdict::Yes)
}

pub(super) fn text(outcome: &DrainOutcome) -> String {
    let DrainOutcome { service, endpoint, in_flight, available, .. } = outcome;
    let state = if outcome.drained { "drained" } else { "back in" };
    let mut text = format!(
        "{} {state}: {endpoint} of {service}, {} under way on it, {available} picked\n",
        Sign::Good,
        unit::count(*in_flight),
    );
    if *available == 0 {
        text += &format!("{} warning: no instance of {service} is left\n", Sign::Warning);
    }
    text
}
