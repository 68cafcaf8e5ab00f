//! `mesh-agent explain`

use anyhow::{Context as _, bail};

use super::{
    Ask, Verdict,
    output::{Output, Sign, fields, table},
    unit,
};
use crate::admin::{
    Candidate, EndpointState, ExplainRequest, ExplainedBackend, ExplainedRoute, Explanation,
};

/// Explains the decision for a destination: path, candidates, and why
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Explains what becomes of a connection to a destination: whether it is a service, \
which path it takes and why, which instance would be picked, why one is in or out, \
and what would happen if the agent died. Nothing is sent and no turn is used up.

Exits with 1 where the destination is no service, or nothing could serve it.

Examples:
  mesh-agent explain 10.96.0.11:9080
  mesh-agent explain '[fd00::11]:9080'
  mesh-agent explain reviews:9080 --from /sys/fs/cgroup/mesh/pod-a
  mesh-agent explain reviews.default:9080 --from default/productpage-v1-7d8c9
  mesh-agent explain 10.96.0.10:53 --udp")]
pub struct Args {
    /// An address or hostname, and the port
    #[arg(value_name = "ADDRESS:PORT")]
    destination: String,
    /// As seen by a process in this cgroup, or in this pod (NAMESPACE/POD)
    #[arg(long, value_name = "CGROUP")]
    from: Option<String>,
    /// UDP instead of TCP
    #[arg(long)]
    udp: bool,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let (address, port) = parse(&args.destination)?;
    let transport = if args.udp { "udp" } else { "tcp" }.to_owned();
    let request = ExplainRequest { address, port, transport, from: args.from.clone() };
    let explanation = ask.client(async |client| client.explain(&request).await)?;
    args.output.print(&explanation, text)?;
    let served = explanation.candidates.iter().any(|c| c.state == EndpointState::Available);
    Ok(if explanation.service.is_some() && served { Verdict::Yes } else { Verdict::No })
}

/// Address or hostname, and port. IPv6 addresses stand in brackets, since
/// `fd00::11:80` would be one without a port.
fn parse(text: &str) -> anyhow::Result<(String, u16)> {
    let (host, port) = text.rsplit_once(':').with_context(|| {
        format!("{text:?} has no port: write ADDRESS:PORT, such as 10.96.0.11:80 or reviews:80")
    })?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port =
        port.with_context(|| format!("{text:?} has no port between 1 and 65535 at its end"))?;
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: std::net::Ipv6Addr =
            inner.parse().with_context(|| format!("{inner:?} is no IPv6 address"))?;
        return Ok((address.to_string(), port));
    }
    if host.is_empty() || host.contains([':', '[', ']', '/', ' ']) {
        bail!(
            "{host:?} is no address or hostname; an IPv6 address stands in brackets: [fd00::11]:80"
        );
    }
    Ok((host.to_owned(), port))
}

pub(super) fn text(explanation: &Explanation) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| lines.push([name.to_owned(), value.to_owned()]);
    line("destination", &explanation.destination);
    line("service", explanation.service.as_deref().unwrap_or("none"));
    line("path", &format!("{} ({})", explanation.path, explanation.reason));
    if let Some(protocol) = &explanation.protocol {
        line("protocol", protocol);
    }
    if let Some(algorithm) = &explanation.algorithm {
        line("algorithm", algorithm);
    }
    if let Some(scored_by) = &explanation.scored_by {
        line("score", &format!("{scored_by}: the lower of two wins"));
    }
    if !explanation.dns_answer.is_empty() {
        line("dns answer", &explanation.dns_answer.join(" "));
    }
    line("agent gone", &explanation.agent_gone);
    let mut text = fields(&lines);
    if !explanation.candidates.is_empty() {
        text += "\nCANDIDATES\n";
        let headers = ["NEXT", "ADDRESS", "TIER", "WEIGHT", "SHARE", "SCORE", "STATE", "WHY"];
        text += &table(headers, explanation.candidates.iter().map(row));
    }
    if !explanation.routes.is_empty() {
        text += "\nROUTES\n";
        text += &explanation.routes.iter().map(route).collect::<String>();
    }
    if !explanation.steps.is_empty() {
        text += "\nSTEP BY STEP\n";
        let steps = explanation.steps.iter().enumerate();
        let steps: Vec<_> =
            steps.map(|(at, step)| [format!("{}.", at + 1), step.clone()]).collect();
        text += &fields(&steps);
    }
    text
}

/// Its name, and below it which requests take it, what is done to them, and
/// where they go.
fn route(route: &ExplainedRoute) -> String {
    let mut text = format!("{}\n", route.name);
    let requests = route.requests.iter().map(|one| format!("  requests  {one}\n"));
    let actions = route.actions.iter().map(|one| format!("  action    {one}\n"));
    let backends = route.backends.iter().map(|backend| {
        let ExplainedBackend { service, port, subset, share, instances, actions } = backend;
        let subset = match subset.as_slice() {
            [] => String::new(),
            labels => format!(" with {}", labels.join(" ")),
        };
        let instances = unit::of(*instances, "instance");
        let share = unit::percent(*share);
        let actions = actions.iter().map(|one| format!("              action  {one}\n"));
        format!("  to        {share} {service}:{port}{subset}, {instances}\n")
            + &actions.collect::<String>()
    });
    text.extend(requests.chain(actions).chain(backends));
    text
}

fn row(candidate: &Candidate) -> [String; 8] {
    let sign = match candidate.state {
        EndpointState::Available => Sign::Good,
        EndpointState::Ejected | EndpointState::Unhealthy => Sign::Bad,
        EndpointState::Drained | EndpointState::WeightZero => Sign::Warning,
    };
    [
        if candidate.next { "→" } else { "" }.to_owned(),
        candidate.address.clone(),
        candidate.tier.to_string(),
        candidate.weight.to_string(),
        unit::percent(candidate.share),
        candidate.score.map_or_else(|| "–".to_owned(), |score| format!("{score:.2}")),
        format!("{sign} {}", candidate.state.name()),
        candidate.why.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (text, address, port) in [
            ("10.96.0.11:80", "10.96.0.11", 80),
            ("[fd00:0:0::11]:443", "fd00::11", 443),
            ("reviews.default:9080", "reviews.default", 9080),
        ] {
            assert_eq!(parse(text).unwrap(), (address.to_owned(), port));
        }
        for wrong in ["10.96.0.11", "reviews:http", "a:0", "a:65536", "fd00::11:80", ":80", "[x]:1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
