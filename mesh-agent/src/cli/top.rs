//! `mesh-agent top`

mod rates;
mod screen;

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep_until};

use self::{
    rates::{InstanceRates, Interval, Order, PortRates, Rates},
    screen::Screen,
};
use super::{
    Ask, Verdict,
    output::{self, Format, Output, Sign, table},
    signals::stopped,
    unit,
};
use crate::admin::{Client, ClientError, EndpointState, Traffic};

/// Shows live what each service and instance serves
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Shows live what each service and each of its instances serves, as differences between two \
looks at the agent's counters: requests and new connections per second, how many succeed, \
the time to the first byte of an answer (half of them, and 99 in 100, keep to it; `~` is a \
moving average: on the kernel path of handshakes, or answers), what is under way, bytes in \
both directions, and ejections. On a terminal it is drawn in place, until Ctrl-C; elsewhere \
it prints one block, or with json one object on a line, for each interval.

ACTIVE of a service counts its open connections, of an instance requests (HTTP) or \
connections under way. OK of a service counts what its clients saw, of an instance its \
attempts: a failure that another instance made good shows only there.

Examples:
  mesh-agent top
  mesh-agent top --service reviews --by latency
  mesh-agent top --interval 5s --count 1
  mesh-agent top -o json | jq -c '.services[] | [.service, .requestsPerSecond, .p99Us]'")]
pub struct Args {
    /// Only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Time between two looks, 100ms or longer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// What comes first
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    by: Order,
    /// Ends after that many intervals
    #[arg(long, short = 'n', value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Only services, without their instances
    #[arg(long)]
    summary: bool,
    #[command(flatten)]
    output: Output,
}

fn interval(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(100);
    let interval = super::tap::duration(text)?;
    if interval < SHORTEST { Err("is too short: at least `100ms`".into()) } else { Ok(interval) }
}

/// Why the view ends, where it is not for an error of the agent's.
enum End {
    Enough,
    Failed(anyhow::Error),
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let end = ask.client(async |client| {
        tokio::select! {
            end = view(args, &client) => end,
            () = stopped() => Ok(End::Enough),
        }
    })?;
    match end {
        End::Enough => Ok(Verdict::Yes),
        End::Failed(error) => Err(error),
    }
}

async fn view(args: &Args, client: &Client) -> Result<End, ClientError> {
    let mut before = client.traffic().await?;
    if let Err(error) = known(&before, args.service.as_deref()) {
        return Ok(End::Failed(error));
    }
    let mut screen = (args.output.format() == Format::Table).then(Screen::open);
    let mut next = Instant::now();
    let mut shown = 0;
    loop {
        // A look that takes longer than the interval shifts those that follow.
        next = (next + args.interval).max(Instant::now());
        sleep_until(next).await;
        let after = client.traffic().await?;
        let mut interval = Interval::new(&before, &after, args.service.as_deref());
        interval.sort(args.by);
        before = after;
        match show(args, &interval, screen.as_mut()) {
            Ok(true) => {}
            Ok(false) => return Ok(End::Enough),
            Err(error) => return Ok(End::Failed(error)),
        }
        shown += 1;
        if args.count == Some(shown) {
            return Ok(End::Enough);
        }
    }
}

fn known(traffic: &Traffic, service: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = service else { return Ok(()) };
    let mut names: Vec<_> = traffic.ports.iter().map(|port| port.service.as_str()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    names.dedup();
    names.truncate(20);
    bail!("there is no service {name:?}; there are: {}", names.join(", "))
}

fn show(args: &Args, interval: &Interval, screen: Option<&mut Screen>) -> anyhow::Result<bool> {
    match (args.output.format(), screen) {
        (Format::Table, Some(screen)) => screen.show(text(interval, args.summary)),
        (Format::Yaml, _) => output::write(&format!("---\n{}", serde_saphyr::to_string(interval)?)),
        _ => output::write(&(serde_json::to_string(interval)? + "\n")),
    }
}

pub(super) fn text(interval: &Interval, summary: bool) -> String {
    let of_all = |of: fn(&PortRates) -> f64| interval.services.iter().map(of).sum::<f64>();
    let mut text = format!(
        "{}  {} requests/s, {} connections/s, {}/s, over {:.1} s\n",
        interval.time.get(11..19).unwrap_or_default(),
        number(of_all(|port| port.requests_per_second)),
        number(of_all(|port| port.connections_per_second)),
        unit::bytes(of_all(|port| port.rates.bytes()) as u64),
        interval.seconds,
    );
    if interval.services.is_empty() {
        return text + "No services are configured.\n";
    }
    let mut rows = Vec::new();
    for port in &interval.services {
        rows.push(port_row(port));
        if !summary {
            rows.extend(port.instances.iter().map(instance_row));
        }
    }
    let headers =
        ["SERVICE", "PATH", "REQ/S", "CONN/S", "OK", "P50", "P99", "ACTIVE", "BYTES/S", "EJECT"];
    text += &table(headers, rows);
    text
}

fn port_row(port: &PortRates) -> [String; 10] {
    let [ok, p50, p99, bytes, ejected] = cells(&port.rates);
    [
        format!("{}:{}", port.service, port.port),
        port.path.clone(),
        number(port.requests_per_second),
        number(port.connections_per_second),
        ok,
        p50,
        p99,
        unit::count(port.connections),
        bytes,
        ejected,
    ]
}

fn instance_row(instance: &InstanceRates) -> [String; 10] {
    let [ok, p50, p99, bytes, ejected] = cells(&instance.rates);
    let state = match instance.state {
        EndpointState::Available => String::new(),
        state @ (EndpointState::Ejected | EndpointState::Unhealthy) => {
            format!("{} {}", Sign::Bad, state.name())
        }
        state => format!("{} {}", Sign::Warning, state.name()),
    };
    [
        format!("  {}", instance.address),
        state,
        number(instance.picks_per_second),
        String::new(),
        ok,
        p50,
        p99,
        unit::count(instance.rates.in_flight),
        bytes,
        ejected,
    ]
}

fn cells(rates: &Rates) -> [String; 5] {
    let dash = || "–".to_owned();
    let average = rates.average_us.map(|us| format!("~{}", unit::micros(us)));
    let sign = if rates.errors_per_second > 0.0 { "! " } else { "" };
    [
        rates.success_percent.map_or_else(dash, |ok| format!("{sign}{ok:.1}%")),
        rates.p50_us.map(unit::micros).or(average).unwrap_or_else(dash),
        rates.p99_us.map_or_else(dash, unit::micros),
        unit::bytes(rates.bytes() as u64),
        match rates.ejections {
            0 => dash(),
            count => format!("+{count}"),
        },
    ]
}

/// Small ones with a digit after the point.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 9.95 => format!("{value:.1}"),
        value => unit::count(value.round() as u64),
    }
}

#[cfg(test)]
pub(super) fn sample() -> String {
    let (before, after) = (crate::admin::sample::traffic(1), crate::admin::sample::traffic(2));
    text(&Interval::new(&before, &after, None), false)
}
