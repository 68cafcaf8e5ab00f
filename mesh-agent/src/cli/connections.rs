//! `mesh-agent connections`

use super::{
    Ask, Verdict,
    output::{Output, table},
    unit,
};
use crate::admin::{ConnectionView, Who};

/// Lists the live connections of both paths
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Lists the live connections of both paths: whose they are, which service was asked \
for, and which instance serves them. Bytes and round trip of the kernel path are \
asked from the kernel; where it doesn't tell, there is a dash. The path \
`bypass` is the kernel path too, past TCP.

Examples:
  mesh-agent connections
  mesh-agent connections -o json | jq 'group_by(.instance) | map({(.[0].instance): length})'")]
pub struct Args {
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let connections = ask.client(async |client| client.connections().await)?;
    args.output.print(&connections[..], text)?;
    Ok(Verdict::Yes)
}

pub(super) fn text(connections: &[ConnectionView]) -> String {
    if connections.is_empty() {
        return "There are no live connections.\n".to_owned();
    }
    let headers =
        ["PATH", "WHO", "CLIENT", "SERVICE", "INSTANCE", "AGE", "SENT", "RECEIVED", "RTT"];
    table(headers, connections.iter().map(row))
}

fn row(connection: &ConnectionView) -> [String; 9] {
    let dash = || "–".to_owned();
    [
        if connection.past_tcp { "bypass".to_owned() } else { connection.path.clone() },
        who(&connection.who),
        connection.client.clone(),
        connection.service.clone(),
        connection.instance.clone().unwrap_or_else(dash),
        unit::millis(connection.age_ms),
        connection.bytes_sent.map_or_else(dash, unit::bytes),
        connection.bytes_received.map_or_else(dash, unit::bytes),
        connection.rtt_us.map_or_else(dash, unit::micros),
    ]
}

/// The pod; without Kubernetes the process, and the last part of the cgroup's
/// path, which is what people call the pod.
pub(super) fn who(who: &Who) -> String {
    if let Some(pod) = &who.pod {
        return format!("{}/{}", pod.namespace, pod.name);
    }
    let process = match (who.process.as_str(), who.pid) {
        ("", 0) => "?".to_owned(),
        ("", pid) => format!("pid {pid}"),
        (process, pid) => format!("{process}[{pid}]"),
    };
    match who.cgroup.rsplit('/').find(|part| !part.is_empty()) {
        Some(cgroup) => format!("{process} in {cgroup}"),
        None => process,
    }
}
