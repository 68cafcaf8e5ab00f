//! `mesh-agent endpoints`

use super::{
    Ask, Verdict,
    output::{Output, Sign, table},
    unit,
};
use crate::admin::{EndpointState, EndpointView};

/// Lists the instances of a service, or of all
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Lists the instances behind a service, or behind all: state, weight, the share of the \
picks that each is due now, its tier (0 is the nearest), requests or connections in \
flight, response time, and how often it was picked. Below each table: why an instance \
is out, and for how long.

Examples:
  mesh-agent endpoints reviews
  mesh-agent endpoints -o json | jq 'map(select(.state != \"available\"))'")]
pub struct Args {
    /// Only this service's
    service: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let service = args.service.as_deref();
    let endpoints = ask.client(async |client| client.endpoints(service).await)?;
    args.output.print(&endpoints[..], text)?;
    Ok(Verdict::Yes)
}

pub(super) fn text(endpoints: &[EndpointView]) -> String {
    if endpoints.is_empty() {
        return "There are no instances.\n".to_owned();
    }
    let headers = [
        "INSTANCE", "STATE", "WEIGHT", "SHARE", "TIER", "LOCALITY", "ACTIVE", "TIME", "PICKS",
        "FAILED",
    ];
    let same_port =
        |a: &EndpointView, b: &EndpointView| (&a.service, a.port) == (&b.service, b.port);
    let groups = endpoints.chunk_by(same_port).map(|group| {
        let rows = table(headers, group.iter().map(row));
        let why: String = group.iter().filter_map(why).collect();
        format!("{}:{}\n{rows}{why}", group[0].service, group[0].port)
    });
    groups.collect::<Vec<_>>().join("\n")
}

/// A line for an instance that fails, which the table has no room for.
fn why(endpoint: &EndpointView) -> Option<String> {
    let why = endpoint.why.as_ref()?;
    Some(format!("{}: {why}\n", endpoint.address))
}

fn row(endpoint: &EndpointView) -> [String; 10] {
    let sign = match endpoint.state {
        EndpointState::Available => Sign::Good,
        EndpointState::Ejected | EndpointState::Unhealthy => Sign::Bad,
        EndpointState::Drained | EndpointState::WeightZero => Sign::Warning,
    };
    let or_dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    [
        endpoint.address.clone(),
        format!("{sign} {}", endpoint.state.name()),
        endpoint.weight.to_string(),
        unit::percent(endpoint.share),
        endpoint.tier.to_string(),
        or_dash(&endpoint.locality),
        unit::count(endpoint.in_flight),
        or_dash(&endpoint.response_time_us.map(unit::micros).unwrap_or_default()),
        unit::count(endpoint.picks),
        unit::count(endpoint.failures),
    ]
}
