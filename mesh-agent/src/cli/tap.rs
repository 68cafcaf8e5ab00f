//! `mesh-agent tap`

use super::{
    Ask, Verdict,
    output::{self, Format, Output, fit},
    unit,
};
use crate::{
    admin::{Client, ClientError, TapEvent, TapLine},
    tap::{Ended, Filter, Glob, InstancePattern, Kind, PathPattern, StatusPattern, Via},
};

/// Shows requests and connections as they end, of both paths
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Shows requests and connections as they end, of both paths, until it is stopped or has \
shown enough: whose they were, which service was asked for, which instance it was, how \
it ended and after how long, and the bytes sent and received (of a request those of the \
bodies). Requests are seen on the proxy path; of the kernel path connections are. All \
filters that are given have to hold.

Traffic never waits for whoever watches: what isn't taken in time is lost, and how much \
is said (`{\"lost\": 12}` in json). With json each event is an object on a line of its \
own, with stable keys. While nobody watches, nothing is paid for it.

Examples:
  mesh-agent tap
  mesh-agent tap --service reviews --status 5xx --status failed
  mesh-agent tap --client 'default/web-*' --method POST --path '/api/*/items'
  mesh-agent tap --min-duration 250ms -n 20
  mesh-agent tap --via kernel --begun
  mesh-agent tap -o json | jq -c 'select(.attempts > 1) | [.service, .why]'")]
pub struct Args {
    /// Only of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only of this instance: its address, with the port or without
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    instance: Option<InstancePattern>,
    /// Only of these clients, by pod, namespace/pod, namespace/service account, process,
    /// cgroup (its path or the last part of it) or address; `*` stands for anything
    #[arg(long, value_name = "PATTERN")]
    client: Option<Glob>,
    /// Only requests with this method; may be given again
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,
    /// Only requests whose path begins so, or with a `*` is like that as a whole
    #[arg(long, value_name = "PATH")]
    path: Option<PathPattern>,
    /// Only what ended so: a status such as 503, a class such as 5xx, or one of complete,
    /// closed, refused, failed, reset, cancelled and cut; may be given again
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<StatusPattern>,
    /// Only what took that long or longer, such as 250ms or 2s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    min_duration: Option<std::time::Duration>,
    /// Only what took this path: kernel or proxy
    #[arg(long, value_name = "PATH")]
    via: Option<Via>,
    /// Only requests, or only connections
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// What has only begun, too
    #[arg(long)]
    begun: bool,
    /// Ends after that many events
    #[arg(long, short = 'n', visible_alias = "max", value_name = "NUMBER",
          value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// As in the configuration file.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::duration(text)
}

impl Args {
    fn filter(&self) -> Filter {
        Filter {
            begun: self.begun,
            kind: self.kind,
            via: self.via,
            service: self.service.clone(),
            instance: self.instance,
            client: self.client.clone(),
            method: self.method.iter().map(|method| method.to_uppercase()).collect(),
            path: self.path.clone(),
            status: self.status.clone(),
            min_duration_us: self
                .min_duration
                .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let filter = args.filter();
    let shown = ask.client(async |client| {
        tokio::select! {
            shown = follow(args, &filter, &client) => shown,
            // Ctrl-C is how one leaves.
            _ = tokio::signal::ctrl_c() => Ok(Ok(())),
        }
    })?;
    shown.map(|()| Verdict::Yes)
}

/// Shows what comes, until it is enough. Inside: what became of the output.
async fn follow(
    args: &Args,
    filter: &Filter,
    client: &Client,
) -> Result<anyhow::Result<()>, ClientError> {
    let (format, width) = (args.output.format(), output::width());
    let mut tapping = client.tap(filter).await?;
    if format == Format::Table
        && let Err(error) = output::print(&head(width))
    {
        return Ok(Err(error));
    }
    let mut left = args.count;
    loop {
        let line = tapping.next().await?;
        match show(&line, format, width) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
        if let (Some(left), TapLine::Event(_)) = (&mut left, &line) {
            *left -= 1;
        }
        if left == Some(0) {
            return Ok(Ok(()));
        }
    }
}

/// Prints a line; `false` where nobody reads any more.
fn show(line: &TapLine, format: Format, width: usize) -> anyhow::Result<bool> {
    output::write(&match format {
        Format::Table => text(line, width),
        Format::Json => serde_json::to_string(line)? + "\n",
        Format::Yaml => format!("---\n{}", serde_saphyr::to_string(line)?),
    })
}

/// Of the columns: time, client, service, instance, status, time, bytes both ways.
const COLUMNS: [usize; 8] = [12, 15, 12, 18, 10, 7, 8, 8];

/// Of a line, with a wider terminal's room in the names.
fn line(cells: [&str; 8], width: usize) -> String {
    let spare = width.saturating_sub(usize::from(output::WIDTH)) / 3;
    let mut text = String::new();
    for (index, (cell, column)) in cells.into_iter().zip(COLUMNS).enumerate() {
        let room = if (1..4).contains(&index) { column + spare } else { column };
        text += &format!("{:room$} ", fit(cell, room));
    }
    text.trim_end().to_owned() + "\n"
}

fn head(width: usize) -> String {
    line(["TIME", "CLIENT", "SERVICE", "INSTANCE", "STATUS", "TOOK", "SENT", "RECEIVED"], width)
}

/// Two lines: who and what; and below it the request, and all that is unusual.
pub(super) fn text(tapped: &TapLine, width: usize) -> String {
    let event = match tapped {
        TapLine::Lost { lost } => {
            return format!(
                "! {} lost: they came faster than they were taken\n",
                unit::of(usize::try_from(*lost).unwrap_or(usize::MAX), "event",)
            );
        }
        TapLine::Event(event) => event,
    };
    let dash = || "–".to_owned();
    let first = line(
        [
            event.time.get(11..23).unwrap_or(&event.time),
            &super::connections::who(&event.who),
            event.service.as_deref().unwrap_or("–"),
            event.instance.as_deref().unwrap_or("–"),
            &status(event),
            &event.duration_us.map_or_else(dash, unit::micros),
            &event.bytes_sent.map_or_else(dash, unit::bytes),
            &event.bytes_received.map_or_else(dash, unit::bytes),
        ],
        width,
    );
    let second = format!("{:13}{}", "", details(event));
    first + &fit(&second, width) + "\n"
}

fn status(event: &TapEvent) -> String {
    let sign = match (event.status, event.ended.map(Ended::name)) {
        (Some(500..), _) | (_, Some("refused" | "failed" | "reset")) => "✗ ",
        (Some(400..), _) | (_, Some("cancelled" | "cut")) => "! ",
        _ => "",
    };
    match (event.status, event.ended) {
        (Some(status), _) => format!("{sign}{status}"),
        (None, Some(ended)) => format!("{sign}{ended}"),
        (None, None) => event.event.to_string(),
    }
}

fn details(event: &TapEvent) -> String {
    let what = match (&event.method, &event.path) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => format!("{} connection to {}", event.via, event.destination),
    };
    let mut parts = vec![what];
    parts.extend(event.first_byte_us.map(|us| format!("first byte {}", unit::micros(us))));
    parts.extend(event.rtt_us.map(|us| format!("round trip {}", unit::micros(us))));
    parts.extend(event.requests.map(|count| unit::of(count as usize, "request")));
    parts
        .extend(event.attempts.filter(|tries| *tries > 1).map(|tries| format!("{tries} attempts")));
    parts.extend(event.grpc_status.map(|status| format!("grpc-status {status}")));
    let unusual = event.ended.filter(|ended| event.status.is_some() && *ended != Ended::Complete);
    parts.extend(match (unusual, &event.why) {
        (Some(ended), Some(why)) => Some(format!("{ended}: {why}")),
        (Some(ended), None) => Some(ended.to_string()),
        (None, why) => why.clone(),
    });
    parts.join(", ")
}
