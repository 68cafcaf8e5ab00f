//! `mesh-agent services`

use super::{
    Ask, Verdict,
    output::{Output, Sign, table},
    unit,
};
use crate::admin::{PortView, ServiceView};

/// Lists the services: addresses, path, algorithm, instances, traffic
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Lists the services with one line for each port: the path that it takes (kernel: \
balanced at connect, no proxy; proxy: through the agent), the algorithm, how many \
of its instances are available, and its traffic on both paths. `panic`: so few are \
available that those that fail are used as well. Below: what limits of the policy \
refused, by reason (`connect`: the hooks, with EAGAIN), and would have refused.

Examples:
  mesh-agent services
  mesh-agent services -o json | jq '.[].ports[].why'")]
pub struct Args {
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let services = ask.client(async |client| client.services().await)?;
    args.output.print(&services[..], text)?;
    Ok(Verdict::Yes)
}

pub(super) fn text(services: &[ServiceView]) -> String {
    if services.is_empty() {
        return "No services are configured.\n".to_owned();
    }
    let rows = services.iter().flat_map(|s| s.ports.iter().map(move |port| row(s, port)));
    let headers = [
        "SERVICE",
        "ADDRESS",
        "PORT",
        "PATH",
        "ALGORITHM",
        "PICKED",
        "CONNS",
        "REQUESTS",
        "ERRORS",
    ];
    let limited: String = (services.iter())
        .flat_map(|service| service.ports.iter().filter_map(move |port| limited(service, port)))
        .collect();
    table(headers, rows) + &limited
}

/// A line for a port that refused something, which the table has no room for.
fn limited(service: &ServiceView, port: &PortView) -> Option<String> {
    let refused = port.limited.iter();
    let mut parts: Vec<_> =
        refused.map(|reason| format!("{} {}", unit::count(reason.count), reason.name)).collect();
    if port.dry_run > 0 {
        parts.push(format!("{} in dry run", unit::count(port.dry_run)));
    }
    let parts = (!parts.is_empty()).then(|| parts.join(", "))?;
    Some(format!("{}:{}: over its limits: {parts}\n", service.name, port.port))
}

fn row(service: &ServiceView, port: &PortView) -> [String; 9] {
    let sign = match port.available {
        _ if port.panic => Sign::Bad,
        0 => Sign::Bad,
        available if available < port.endpoints => Sign::Warning,
        _ => Sign::Good,
    };
    [
        service.name.clone(),
        service.addresses.join(" "),
        format!("{}/{}", port.port, port.protocol),
        port.path.clone(),
        port.algorithm.clone(),
        format!(
            "{sign} {}/{}{}",
            port.available,
            port.endpoints,
            if port.panic { " panic" } else { "" }
        ),
        unit::count(port.connections),
        unit::count(port.requests),
        unit::count(port.errors),
    ]
}
