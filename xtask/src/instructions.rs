//! `cargo xtask instructions`: what the hot path costs, counted and not timed,
//! so that a regression shows although the machine is noisy.
//!
//! Each micro-benchmark runs twice under valgrind, once with more iterations:
//! the difference is what the iterations took, without start and set-up.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    process,
    setup::{self, Purpose},
    workspace,
};

/// Count the instructions of the micro-benchmarks, and compare them with what they were.
#[derive(Debug, Clone, Copy, Args)]
#[command(long_about = "\
Counts the instructions of each micro-benchmark that mesh-agent/benches/instructions.txt names, in \
the development profile, and compares them with the numbers there. Fails where one needs over 15 % \
more; where it needs that much less, the file wants to be written anew.

Examples:
  cargo xtask instructions            # compare
  cargo xtask instructions --update   # write the file, after a change that is meant")]
pub struct Arguments {
    /// Write what was counted into the file
    #[arg(long)]
    update: bool,
}

impl Arguments {
    pub const fn compare() -> Self {
        Self { update: false }
    }
}

const FILE: &str = "mesh-agent/benches/instructions.txt";
/// In hundredths: compilers and hash seeds differ.
const TOLERANCE: u64 = 15;
/// Iterations of the shorter run and of the longer one.
const ROUNDS: (u64, u64) = (200, 1200);

/// Instructions per iteration, by the benchmark's name.
type Counts = BTreeMap<String, u64>;

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Ci)?;
    let file = workspace::root().join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("read {FILE}"))?;
    let before = read(&text)?;
    let programs = build()?;
    let mut after = Counts::new();
    for name in before.keys() {
        let (bench, _) = name.split_once("::").context("names begin with their file's")?;
        let program = programs.get(bench).with_context(|| format!("there is no bench {bench}"))?;
        let count = count(program, name)?;
        println!("{}", line(name, before[name], count));
        after.insert(name.clone(), count);
    }
    if arguments.update {
        return fs::write(&file, write(&text, &after)).with_context(|| format!("write {FILE}"));
    }
    let worse: Vec<_> = before.keys().filter(|name| worse(before[*name], after[*name])).collect();
    ensure!(
        worse.is_empty(),
        "over {TOLERANCE} % more instructions than {FILE} says: {worse:?}. Make it cheaper, or say \
         why it isn't and run `cargo xtask instructions --update`"
    );
    Ok(())
}

fn worse(before: u64, after: u64) -> bool {
    after * 100 > before * (100 + TOLERANCE)
}

fn line(name: &str, before: u64, after: u64) -> String {
    let change = (after as f64 / before.max(1) as f64 - 1.0) * 100.0;
    let note = match (worse(before, after), worse(after, before)) {
        (true, _) => "  MORE",
        (_, true) => "  less: write the file anew",
        _ => "",
    };
    format!("{name:<44} {before:>10} → {after:>10}  {change:+6.1} %{note}")
}

/// The lines that are no comments: a name and a number.
fn read(text: &str) -> Result<Counts> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let counts: Counts = lines
        .map(|line| {
            let (name, count) =
                line.rsplit_once(' ').with_context(|| format!("no number: {line}"))?;
            let count = count.parse().with_context(|| format!("no number: {line}"))?;
            Ok((name.trim().to_owned(), count))
        })
        .collect::<Result<_>>()?;
    ensure!(!counts.is_empty(), "{FILE} names no benchmark");
    Ok(counts)
}

/// The comments as they were, and the counts.
fn write(text: &str, counts: &Counts) -> String {
    let mut written: String =
        text.lines().filter(|line| line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    for (name, count) in counts {
        let _ = writeln!(written, "{name} {count}");
    }
    written
}

/// The benchmarks' programs by their names.
fn build() -> Result<BTreeMap<String, PathBuf>> {
    let mut command = process::cargo("bench");
    command.args(["--package", "mesh-agent", "--profile", "dev", "--benches", "--no-run"]);
    let printed = process::output(command.args(["--message-format", "json", "--quiet"]))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter_map(|message| {
        let target = &message["target"];
        let is_bench = target["kind"].as_array()?.iter().any(|kind| kind == "bench");
        let path = message["executable"].as_str().filter(|_| is_bench)?;
        Some((target["name"].as_str()?.to_owned(), PathBuf::from(path)))
    });
    Ok(programs.collect())
}

/// Instructions of one iteration.
fn count(program: &Path, name: &str) -> Result<u64> {
    let (short, long) = (total(program, name, ROUNDS.0)?, total(program, name, ROUNDS.1)?);
    let more = long.checked_sub(short).filter(|&more| more > 0);
    let more = more.with_context(|| format!("{name} ran nothing: is it a benchmark's name?"))?;
    Ok(more / (ROUNDS.1 - ROUNDS.0))
}

fn total(program: &Path, name: &str, rounds: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(program).args(["--bench", "--timer", "os", "--sample-count", "1"]);
    command.args(["--sample-size", &rounds.to_string(), "--exact", name]);
    let output = command.output().context("valgrind isn't there: `cargo xtask setup` gets it")?;
    let report = String::from_utf8_lossy(&output.stderr);
    match refs(&report) {
        Some(refs) if output.status.success() => Ok(refs),
        _ => bail!("{}: {report}", process::display(&command)),
    }
}

/// `==1== I   refs:      697,122`, or `I refs:` in later versions.
fn refs(report: &str) -> Option<u64> {
    let line = report.lines().find(|line| line.contains(" refs:") && line.contains("= I"))?;
    let (_, number) = line.rsplit_once(':')?;
    number.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valgrinds_report_is_read() {
        let report = "==7== Command: a refs: b\n==7== \n==7== I   refs:      1,697,122\n";
        assert_eq!(refs(report), Some(1_697_122));
        assert_eq!(refs("==7== I refs:  12\n"), Some(12));
        assert_eq!(refs("no report"), None);
    }

    #[test]
    fn the_file_is_read_and_written() {
        let text = "# why\nrequest::pick::random 100\nchange::one_service::1000 20\n";
        let mut counts = read(text).unwrap();
        assert_eq!(counts["request::pick::random"], 100);
        counts.insert("request::pick::random".to_owned(), 90);
        let expected = "# why\nchange::one_service::1000 20\nrequest::pick::random 90\n";
        assert_eq!(write(text, &counts), expected);
        assert!(read("# nothing\n").is_err());
        assert!(read("name many\n").is_err());
    }

    #[test]
    fn a_little_more_is_no_regression() {
        assert!(!worse(100, 115));
        assert!(worse(100, 116));
        assert!(line("a", 100, 80).contains("write the file anew"));
    }
}
