//! The commands. One file each: what it is told, what it does, what it prints.

mod check;
mod completions;
mod connections;
mod drain;
mod endpoints;
mod exec;
mod exit;
mod explain;
mod logs;
mod output;
pub mod preflight;
mod reference;
mod reload;
mod run;
mod schema;
mod services;
mod signals;
mod status;
mod tap;
#[cfg(test)]
mod tests;
mod top;
mod uninstall;
mod unit;
mod version;

pub use exit::{Verdict, code};
pub use reference::reference;

use std::{ffi::OsString, path::PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    admin::{Client, ClientError},
    model::Admin,
};

/// A service mesh without sidecars: steers and balances the connections of
/// captured processes, in the kernel or through one agent per node
#[derive(Debug, Parser)]
#[command(name = "mesh-agent", version, max_term_width = 100)]
struct Cli {
    /// The running agent's socket, where its `admin.socket` is not the usual one
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "MESH_AGENT_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Preflight(preflight::Args),
    Status(status::Args),
    Services(services::Args),
    Endpoints(endpoints::Args),
    Connections(connections::Args),
    Top(top::Args),
    Tap(tap::Args),
    Explain(explain::Args),
    Exec(exec::Args),
    Reload(reload::Args),
    Drain(drain::Args),
    #[command(about = "Takes a drained instance back in")]
    Undrain(drain::Args),
    Logs(logs::Args),
    Uninstall(uninstall::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Version(version::Args),
    #[command(hide = true)]
    Reference(reference::Args),
}

/// Does what the command line says. The result's exit code is [`code`].
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Verdict> {
    let Cli { socket, command } = Cli::try_parse_from(arguments)?;
    let ask = Ask { socket };
    match &command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Preflight(args) => preflight::run(args),
        Command::Status(args) => status::run(args, &ask),
        Command::Services(args) => services::run(args, &ask),
        Command::Endpoints(args) => endpoints::run(args, &ask),
        Command::Connections(args) => connections::run(args, &ask),
        Command::Top(args) => top::run(args, &ask),
        Command::Tap(args) => tap::run(args, &ask),
        Command::Explain(args) => explain::run(args, &ask),
        Command::Exec(args) => exec::run(args),
        Command::Reload(args) => reload::run(args, &ask),
        Command::Drain(args) => drain::run(args, &ask, true),
        Command::Undrain(args) => drain::run(args, &ask, false),
        Command::Logs(args) => logs::run(args, &ask),
        Command::Uninstall(args) => uninstall::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Version(args) => version::run(args),
        Command::Reference(args) => reference::run(args),
    }
}

/// Prints what went wrong, where and as people expect it.
pub fn report(error: &anyhow::Error) {
    match error.downcast_ref::<clap::Error>() {
        // Help and version are "errors" that go to standard output. A failing
        // write means that nobody reads it.
        Some(usage) => drop(usage.print()),
        None => eprintln!("mesh-agent: {}", sentence(error)),
    }
}

/// The error with its causes; some texts already hold their cause's, and a
/// cause isn't said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    text
}

/// The way to the running agent.
#[derive(Debug)]
struct Ask {
    /// `--socket`
    socket: Option<PathBuf>,
}

impl Ask {
    /// Asks the agent one thing.
    fn client<T>(
        &self,
        question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        let socket = self.socket.clone().unwrap_or_else(|| Admin::default().socket);
        Ok(runtime()?.block_on(question(Client::new(&socket)))?)
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client")
}
