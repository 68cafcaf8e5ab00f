//! The machine: which cores do what, and what the results were measured on.

use std::{fs, process::Command, thread};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::process;

/// Who runs where, the same for every contender: load generators on the lower
/// half of the cores, servers on the upper half, proxies on all of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cores {
    /// As taskset takes them.
    pub clients: String,
    pub servers: String,
    pub all: String,
    pub client_threads: u32,
    /// Workers of each proxy.
    pub workers: u32,
}

impl Cores {
    pub fn of_this_machine() -> Result<Self> {
        Ok(Self::split(u32::try_from(thread::available_parallelism()?.get())?))
    }

    fn split(count: u32) -> Self {
        let range = |from: u32, to: u32| match to - from {
            0 | 1 => from.to_string(),
            _ => format!("{from}-{}", to - 1),
        };
        let half = (count / 2).max(1);
        Self {
            clients: range(0, half),
            servers: range(half.min(count - 1), count),
            all: range(0, count),
            client_threads: half,
            workers: count,
        }
    }
}

/// What stands above every table of results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub memory_gib: f64,
    pub kernel: String,
    /// The system's, which new namespaces start with.
    pub congestion_control: String,
    pub cores: Cores,
    pub commit: String,
    /// Name and version of every program that took part.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    pub fn look(cores: &Cores, envoy: Option<&std::path::Path>) -> Self {
        let mut versions = Vec::new();
        let programs: [(&str, &[&str]); 7] = [
            ("nginx", &["-v"]),
            ("haproxy", &["-v"]),
            ("wrk", &["-v"]),
            ("h2load", &["--version"]),
            ("iperf3", &["--version"]),
            ("sockperf", &["--version"]),
            ("iptables", &["--version"]),
        ];
        for (program, arguments) in programs {
            if let Some(path) = process::find_program(program)
                && let Some(line) = first_line(Command::new(path).args(arguments))
            {
                versions.push((program.to_owned(), line));
            }
        }
        if let Some(line) = envoy.and_then(|path| first_line(Command::new(path).arg("--version"))) {
            // It names its own file first.
            let version = line.split_once("version: ").map_or(line.as_str(), |(_, rest)| rest);
            versions.push(("envoy".to_owned(), version.to_owned()));
        }
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            memory_gib: memory_gib().unwrap_or_default(),
            kernel: setting("kernel/osrelease"),
            congestion_control: setting("net/ipv4/tcp_congestion_control"),
            cores: cores.clone(),
            commit: process::output(
                Command::new("git")
                    .args(["rev-parse", "--short", "HEAD"])
                    .current_dir(crate::workspace::root()),
            )
            .map(|text| text.trim().to_owned())
            .unwrap_or_default(),
            versions,
        }
    }
}

/// The first line that isn't empty, from wherever it was printed; some
/// programs end with an error after they have said their version.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    [output.stdout, output.stderr].into_iter().find_map(|bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().map(plain).find(|line| !line.is_empty())
    })
}

/// Without escape sequences for colours.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut escaped = false;
    for letter in line.chars() {
        match letter {
            '\u{1b}' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            _ => text.push(letter),
        }
    }
    text.trim().to_owned()
}

/// As `sysctl` has it; empty where it doesn't.
fn setting(name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    text.trim().to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gib() -> Option<f64> {
    let total = field("/proc/meminfo", "MemTotal")?;
    let kib: f64 = total.trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_split_in_halves() {
        let shown = |count| {
            let cores = Cores::split(count);
            (cores.clients, cores.servers, cores.all, cores.client_threads)
        };
        assert_eq!(shown(1), ("0".into(), "0".into(), "0".into(), 1));
        assert_eq!(shown(2), ("0".into(), "1".into(), "0-1".into(), 1));
        assert_eq!(shown(8), ("0-3".into(), "4-7".into(), "0-7".into(), 4));
    }

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(
            plain("sockperf: \u{1b}[2;35m== version #3.7 == \u{1b}[0m"),
            "sockperf: == version #3.7 =="
        );
    }
}
