//! `cargo xtask demo`: an unmodified application on the mesh, step by step.
//!
//! Every step shows the command that it runs, and ends in a check. Nothing is
//! left of it afterwards, however it ends: see `mesh_tests::World`.

mod load;
mod play;
mod report;
pub mod scenario;
mod stage;
mod steps;
pub mod traffic;

use std::{
    env,
    io::{Write as _, stdin, stdout},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use self::{report::Report, scenario::Scenario, stage::Stage};
use crate::setup::{self, Purpose};

/// `cargo xtask demo`
#[derive(Clone, Debug, Default, Args)]
pub struct DemoOptions {
    /// What to show
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
    /// Leave it running afterwards, until Enter or Ctrl-C, and print what to try
    #[arg(long)]
    pub keep: bool,
    /// Show the agent's log at the end
    #[arg(long, short)]
    pub verbose: bool,
    /// Build and run the debug binaries
    #[arg(long)]
    pub debug: bool,
}

/// The programs that it shows.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub agent: PathBuf,
    pub bookinfo: PathBuf,
}

/// What setup doesn't install, because every system has it, and Debian's package.
const TOOLS: [(&str, &str); 2] = [("setsid", "util-linux"), ("bash", "bash")];

/// Runs all of it; an error where a check didn't hold.
pub fn run(options: &DemoOptions) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    need_tools()?;
    let binaries = build(options.debug)?;
    let start = Instant::now();
    let mut report = Report::default();
    let id = match options.scenario {
        Scenario::Bookinfo => bookinfo(options, &binaries, &mut report)?,
        scenario => small(scenario, options, &binaries, &mut report)?,
    };
    report.check("left behind", "nothing", &left_of(&id)?.join(", "), left_of(&id)?.is_empty());
    report.print();
    println!("{:.0} s without the build.", start.elapsed().as_secs_f64());
    ensure!(report.holds(), "not all checks held");
    Ok(())
}

/// The world's name, when all of it is over.
fn bookinfo(options: &DemoOptions, binaries: &Binaries, report: &mut Report) -> Result<String> {
    let mut stage = Stage::set_up(binaries)?;
    let outcome = steps::all(&mut stage, report);
    if options.verbose || outcome.is_err() {
        println!("\nThe agent's log:\n{}", stage.agent.log());
    }
    if outcome.is_err() {
        report.print();
    }
    outcome?;
    if options.keep {
        report.print();
        stage.print_what_to_try()?;
        wait_for_enter()?;
    }
    Ok(stage.world.id().to_owned())
}

/// The world's name, when all of it is over.
fn small(
    scenario: Scenario,
    options: &DemoOptions,
    binaries: &Binaries,
    report: &mut Report,
) -> Result<String> {
    let outcome = scenario::run(scenario, binaries, report);
    if outcome.is_err() {
        report.print();
    }
    let play = outcome?;
    if options.verbose {
        println!("\nThe agent's log:\n{}", play.agent.log());
    }
    if options.keep {
        report.print();
        play.print_what_to_try()?;
        wait_for_enter()?;
    }
    Ok(play.world.id().to_owned())
}

fn wait_for_enter() -> Result<()> {
    print!("\nEnter or Ctrl-C ends it. ");
    stdout().flush()?;
    stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Namespaces, cgroups and pins that still bear this world's name.
fn left_of(id: &str) -> Result<Vec<String>> {
    let mut command = Command::new("find");
    command.args(["/run/netns", "/run/mesh-tests", "/sys/fs/bpf", "/sys/fs/cgroup"]);
    command.args(["-maxdepth", "2", "-name", &format!("{id}*")]);
    // A folder that doesn't exist is no trace either.
    let found = command.output().context("find the traces of this demo")?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().map(ToOwned::to_owned).collect())
}

fn need_tools() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = TOOLS
        .into_iter()
        .filter(|(tool, _)| !env::split_paths(&path).any(|folder| folder.join(tool).exists()))
        .map(|(_, package)| package)
        .collect();
    if !missing.is_empty() {
        bail!("the demo needs more: apt-get install -y {}", missing.join(" "));
    }
    Ok(())
}

/// Builds the programs, unless the environment names an agent.
pub fn build(debug: bool) -> Result<Binaries> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let named = env::var_os("MESH_AGENT_BIN");
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "bookinfo"]).current_dir(root);
    command.args(["--package", "mesh-tests", "--lib", "--bins", "--example", "overload"]);
    if named.is_none() {
        command.args(["--package", "mesh-agent"]);
    }
    if !debug {
        command.arg("--release");
    }
    ensure!(command.status()?.success(), "the build failed: see above");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = root.join(target).join(if debug { "debug" } else { "release" });
    Ok(Binaries {
        agent: named.map_or_else(|| folder.join("mesh-agent"), PathBuf::from),
        bookinfo: folder.join("bookinfo"),
    })
}
