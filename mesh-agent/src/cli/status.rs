//! `mesh-agent status`

use super::{
    Ask, Verdict,
    output::{Output, Sign, fields, table},
    unit,
};
use crate::admin::{
    AgentState, HookView, MapView, SourceState, SourceView, Status, WatchState, WatchView,
};

/// Shows how the agent is: hooks, namespaces, maps, last reload, what is degraded
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Shows how the agent is: its state, the hooks with their links, the captured \
namespaces, the last reload, the sources of instances, the watches of the cluster, how full the maps are, what \
the hooks decided, and everything that is degraded. To be told by exit code, ask for `.degraded`, or scrape \
the metric `mesh_degraded`.

Examples:
  mesh-agent status
  mesh-agent status -o json | jq -e '.degraded == []'")]
pub struct Args {
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args, ask: &Ask) -> anyhow::Result<Verdict> {
    let status = ask.client(async |client| client.status().await)?;
    args.output.print(&status, text)?;
    Ok(Verdict::Yes)
}

pub(super) fn text(status: &Status) -> String {
    let mut text = head(status);
    if !status.hooks.is_empty() {
        text += "\nHOOKS\n";
        text +=
            &table(["CGROUP", "HOOK", "PROGRAM", "LINK", "STATE"], status.hooks.iter().map(hook));
    }
    if !status.namespaces.is_empty() {
        text += "\nCAPTURED NAMESPACES\n";
        text += &table(
            ["COOKIE", "LISTENERS", "PIDS SEEN"],
            status.namespaces.iter().map(|namespace| {
                let pids: Vec<_> = namespace.pids.iter().map(ToString::to_string).collect();
                [namespace.cookie.to_string(), namespace.listeners.join(" "), pids.join(" ")]
            }),
        );
    }
    if !status.sources.is_empty() {
        text += "\nSOURCES\n";
        let columns = ["SERVICE", "SOURCE", "STATE", "INSTANCES", "AGE", "NEXT"];
        text += &table(columns, status.sources.iter().map(source));
    }
    if !status.watches.is_empty() {
        text += "\nWATCHES OF THE CLUSTER\n";
        let columns = ["RESOURCE", "STATE", "OBJECTS", "AGE", "LISTS", "EVENTS"];
        text += &table(columns, status.watches.iter().map(watch));
        let errors = status.watches.iter().filter(|watch| watch.state != WatchState::Synced);
        for (error, age) in errors.filter_map(|it| it.last_error.as_ref().zip(it.last_error_age_ms))
        {
            text += &format!("{} {error} ({} ago)\n", Sign::Bad, unit::millis(age));
        }
    }
    if !status.maps.is_empty() {
        text += "\nMAPS\n";
        text += &table(["MAP", "USED", "CAPACITY", "FILL"], status.maps.iter().map(map));
    }
    let counted: Vec<_> = status.reasons.iter().filter(|reason| reason.count > 0).collect();
    if !counted.is_empty() {
        text += "\nWHAT THE HOOKS DECIDED\n";
        let rows = counted.iter().map(|reason| [reason.name.clone(), unit::count(reason.count)]);
        text += &table(["REASON", "TIMES"], rows);
    }
    text
}

fn head(status: &Status) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| lines.push([name.to_owned(), value.to_owned()]);
    let (sign, state) = match status.state {
        AgentState::Starting => (Sign::Warning, "starting"),
        AgentState::Serving => (Sign::Good, "serving"),
        AgentState::Draining => (Sign::Warning, "draining"),
    };
    let uptime = unit::millis(status.uptime_ms);
    line("state", &format!("{sign} {state} for {uptime}, pid {}", status.pid));
    line("version", &status.version);
    line("config", &status.config);
    match &status.last_reload {
        None => line("last reload", "none since the start"),
        Some(reload) => {
            let age = unit::millis(reload.age_ms);
            if reload.ok {
                line("last reload", &format!("{} ok, {age} ago", Sign::Good));
            } else {
                let what = "the configuration before it serves on";
                line("last reload", &format!("{} refused, {age} ago; {what}", Sign::Bad));
                for problem in &reload.problems {
                    line("", problem);
                }
            }
        }
    }
    let generations = &status.generations;
    match generations.kernel {
        None => line("generation", &generations.registry.to_string()),
        Some(kernel) if kernel == generations.registry => {
            line("generation", &format!("{kernel}, in the agent and in the kernel"));
        }
        Some(kernel) => {
            let agent = generations.registry;
            line(
                "generation",
                &format!("{} behind: agent {agent}, kernel {kernel}", Sign::Warning),
            );
        }
    }
    if let Some(age) = status.heartbeat_age_ms {
        line("heartbeat", &format!("{} ago", unit::millis(age)));
    }
    if !status.ebpf {
        line("eBPF", "off (--no-ebpf): nothing is captured");
    }
    match status.dns.enabled {
        true => line("dns", &format!("on, {} hostnames", unit::count(status.dns.hostnames))),
        false => line("dns", "off"),
    }
    line("log", &status.log);
    if status.degraded.is_empty() {
        line("degraded", "nothing");
    }
    for problem in &status.degraded {
        line("degraded", &format!("{} {problem}", Sign::Bad));
    }
    fields(&lines)
}

fn hook(hook: &HookView) -> [String; 5] {
    let id = |id: Option<u32>| id.map_or_else(|| "–".to_owned(), |id| id.to_string());
    let state = match (&hook.problem, hook.ok) {
        (_, true) => format!("{} ok", Sign::Good),
        (Some(problem), false) => format!("{} wrong: {problem}", Sign::Bad),
        (None, false) => format!("{} wrong", Sign::Bad),
    };
    [hook.cgroup.clone(), hook.hook.clone(), id(hook.program_id), id(hook.link_id), state]
}

fn source(source: &SourceView) -> [String; 6] {
    let state = match source.state {
        SourceState::Waiting => format!("{} waiting", Sign::Warning),
        SourceState::Ok => format!("{} ok", Sign::Good),
        SourceState::Empty => format!("{} empty", Sign::Warning),
        SourceState::Failing => format!("{} failing", Sign::Bad),
    };
    let age = source.age_ms.map_or_else(|| "–".to_owned(), unit::millis);
    let next = match (source.next_try_ms, source.kind.as_str()) {
        (Some(next), _) => unit::millis(next),
        // It is told, and needn't ask.
        (None, "kubernetes") => "–".to_owned(),
        (None, _) => "now".to_owned(),
    };
    let target = format!("{} {}", source.kind, source.target);
    [source.service.clone(), target, state, unit::count(source.instances), age, next]
}

fn watch(watch: &WatchView) -> [String; 6] {
    let state = match watch.state {
        WatchState::Waiting => format!("{} waiting", Sign::Warning),
        WatchState::Synced => format!("{} synced", Sign::Good),
        WatchState::Stale => format!("{} stale", Sign::Warning),
        WatchState::Failing => format!("{} failing", Sign::Bad),
        WatchState::NotInstalled => "not installed".to_owned(),
    };
    let age = watch.age_ms.map_or_else(|| "–".to_owned(), unit::millis);
    let [objects, lists, events] = [watch.objects, watch.lists, watch.events].map(unit::count);
    [watch.resource.clone(), state, objects, age, lists, events]
}

fn map(map: &MapView) -> [String; 4] {
    let fill = 100.0 * map.used as f64 / map.capacity.max(1) as f64;
    let sign = match fill {
        ..80.0 => String::new(),
        80.0..100.0 => format!("{} ", Sign::Warning),
        _ => format!("{} ", Sign::Bad),
    };
    let fill = sign + &unit::percent(fill);
    [map.name.clone(), unit::count(map.used), unit::count(map.capacity), fill]
}
