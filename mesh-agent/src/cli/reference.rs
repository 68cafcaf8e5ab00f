//! `mesh-agent reference`, hidden: the generated pages of docs/, each written
//! by whoever knows. docs/cli.md is made here, from the commands themselves.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::{Cli, Verdict, exit, output::print};
use crate::{config, datapath, telemetry};

/// Prints a generated page of the documentation
#[derive(Debug, clap::Args)]
pub struct Args {
    topic: Topic,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Topic {
    Config,
    Metrics,
    Cli,
    Reasons,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    print(&match args.topic {
        Topic::Config => config::reference(),
        Topic::Metrics => telemetry::reference(),
        Topic::Cli => reference(),
        Topic::Reasons => datapath::reference(),
    })?;
    Ok(Verdict::Yes)
}

/// The page: every command, its help and options, and the exit codes.
pub fn reference() -> String {
    // The page must not depend on the terminal of whoever makes it.
    let mut root = Cli::command().term_width(88);
    root.build();
    let mut page = String::from(
        "# Commands\n\n\
         This page is generated from the program's own help (`mesh-agent COMMAND --help`).\n\n\
         | command | does |\n|---|---|\n",
    );
    let commands: Vec<clap::Command> = root
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .cloned()
        .collect();
    for command in &commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let name = command.get_name();
        push(&mut page, format_args!("| [`{name}`](#{name}) | {about} |\n"));
    }
    page += "\nListings, `status`, `explain`, `check`, `preflight` and `version` take \
             `-o table|json|yaml`;\nthe keys of json and yaml are stable. Colour is used on a \
             terminal only, never alone,\nand not where `NO_COLOR` is set.\n\n\
             ## Exit codes\n\n| code | meaning |\n|---|---|\n";
    for (code, meaning) in exit::CODES {
        push(&mut page, format_args!("| {code} | {meaning} |\n"));
    }
    page += "\nThe exit code of `exec` is that of the command that it runs.\n";
    for mut command in commands {
        let name = command.get_name().to_owned();
        let help = command.render_long_help().to_string();
        let help: String = help.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        push(&mut page, format_args!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end()));
    }
    page
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String cannot fail");
}
