//! docs/performance.md, written from results.

use std::fmt::Write as _;

use super::{
    super::{goal, result::Results, scenario},
    table,
};

/// `pictures`: file names below docs/images.
pub fn write(results: &Results, pictures: &[String]) -> String {
    let mut text = String::from("# Performance\n\n");
    text += "<!-- Written by `cargo xtask bench --docs`; run it again instead of editing. -->\n\n";
    text += "Measured by `cargo xtask bench`, which anyone can run: it needs root, and \
             `cargo xtask bench --install-peers` once. `cargo xtask bench --help` explains it.\n\n";
    machine(&mut text, results);
    text += "## Goals\n\nRatios of medians in this run: ours to the other's. *Past TCP* is the same \
             with [`bypass: true`](bypass.md): not the default, only between sockets of one node, \
             and not for every application. The servers of the rows beside it are on another node, \
             as far as we know.\n\n";
    text += &table::goals(&goal::judge(results)).markdown();
    text += OBSTACLES;
    text += METHOD;
    text += "\n## Results\n";
    for comparison in &results.comparisons {
        let about = scenario::named(&comparison.scenario).map_or("", |scenario| scenario.about);
        let _ = write!(text, "\n### {}: {about}\n\n", comparison.scenario);
        if let Some(pace) = comparison.pace {
            let _ = write!(text, "{pace} requests per second were asked of each.\n\n");
        }
        text += &table::comparison(comparison).markdown();
        for row in comparison.rows.iter().filter(|row| row.problem.is_some()) {
            let _ = write!(text, "\n{}: it failed in this run.\n", super::title(row));
        }
        let prefix = format!("bench-{}-", comparison.scenario);
        let kinds = ["rate.svg", "cpu.svg"].map(|end| format!("{prefix}{end}"));
        for name in pictures.iter().filter(|name| kinds.contains(name)) {
            let _ = write!(text, "\n![{}](images/{name})\n", name.trim_end_matches(".svg"));
        }
    }
    if !results.facts.is_empty() {
        text += "\n## The agent alone\n\n";
        text += &table::facts(&results.facts).markdown();
    }
    text
}

fn machine(text: &mut String, results: &Results) {
    let machine = &results.machine;
    text.push_str("## The machine\n\n| | |\n|---|---|\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    line("processor", &machine.processor);
    let cores = &machine.cores;
    line(
        "cores",
        &format!(
            "{}; load generators on {}, servers on {}, proxies on all with {} workers",
            cores.workers, cores.clients, cores.servers, cores.workers
        ),
    );
    line("memory", &format!("{:.1} GiB", machine.memory_gib));
    line("kernel", &machine.kernel);
    line("TCP congestion control", &machine.congestion_control);
    line("commit", &machine.commit);
    line("effort", &format!("{} rounds of {} s each", results.rounds, results.seconds));
    for (name, version) in &machine.versions {
        line(name, version);
    }
    text.push('\n');
}

const OBSTACLES: &str = "
### What stands in the way where a goal is missed

- **The proxy path beside Envoy**: of what the path costs past TCP, nearly half is the client's and
  the server's own, who cost the same beside Envoy; without any proxy at all, past TCP, the path
  takes a seventh of what a sidecar's does. The goals stem from a machine whose system calls cost
  less.
- **Requests of HTTP/1.1**: of the agent's time two thirds are the kernel's past TCP, and four fifths
  by TCP, for the four system calls that every proxy makes for a request (read and write on both
  sides). The rest is mostly the HTTP library on the client's side: heads are parsed into maps and
  written anew, where haproxy and nginx edit them in place.
- **kube-proxy's iptables**: with one rule for each of a few services they cost less here than where
  the goal was set.
- **One node by TCP** is what no mesh is, but for BBR: where that is the machine's default, as here,
  it paces each packet by a timer, also inside a node. Connections inside a node get CUBIC from us
  ([kernel path](kernel-path.md#congestion-control)): much for streams, little for short answers, and
  nothing where CUBIC is the default. Part of what `past TCP` wins over `direct` is that, too;
  beside it stands `our kernel path, one node`, which has CUBIC as well.
- **New connections**: on the kernel path the hooks' work for each, between 3 and 15 % of what it
  costs, with noise as large. On the proxy path each is looked up in a map by a system call, because
  a connect in the kernel knows nothing but an address. Past TCP each also makes and removes three
  entries of maps.
- **UDP**: every datagram of a socket that isn't connected passes two hooks, there and back; the noise
  of this scenario is ±10 %.
";

const METHOD: &str = "
## How it is measured

- Rounds are interleaved: every contender once, then every contender again. A number is the median
  of its rounds; `±` is half the distance from the lowest to the highest.
- The server is an nginx with one worker (iperf3 and sockperf for what isn't HTTP), in a pod with
  three addresses: three instances to those who balance, one process to the scheduler, so that
  balancing isn't measured by its time slices. Load comes from wrk, h2load, iperf3 and sockperf.
  Everything is pinned as said above, the same for all.
- `direct` calls the server by one of its addresses. `kube-proxy's iptables` goes through the
  chains that kube-proxy writes, in the client's namespace. `our kernel path` leads to servers that
  nobody captures, as on another node; `one node` to captured ones. `our proxy path` is the agent.
  `past TCP` is with [`bypass: true`](bypass.md), which isn't the default, and to captured servers.
- Explicit peers listen on the loopback address in the client's pod. The sidecar is an Envoy in the
  client's pod to which iptables REDIRECT leads; the pair has another one in the server's pod, in
  plain text, without mTLS.
- Peers have their best settings: no access log, kept connections to servers, as many workers as
  cores, no request ids, no limits that answer for them.
- nginx speaks HTTP/1.1 to the servers in the HTTP/2 scenarios, which is all it can, but for gRPC.
- CPU is the cgroups' own count, start and end of the load generator included: `proxy` is the agent
  or the peer, `whole path` also client and servers. The kernel's work on packets is charged to
  whoever sends them.
- Peak memory is the resident peak of the proxy's processes during the run, summed.
- HTTP/2 percentiles come from h2load's log of every request; those at a given pace too, counted
  from when a request was sent, so that waiting before it is not in them.
- TCP request/response and connects are wrk on a port that nobody knows to be HTTP.
- A change is timed by a small client of our own: it takes the only instance of a service out, or
  puts it back, by the agent's socket, and calls `connect` until the kernel answers otherwise.
";
