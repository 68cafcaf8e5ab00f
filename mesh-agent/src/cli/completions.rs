//! `mesh-agent completions`

use clap_complete::Shell;

use super::{Verdict, output::print};

/// Prints a shell's completions
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Prints the completions for a shell.

Examples:
  mesh-agent completions bash > /etc/bash_completion.d/mesh-agent
  mesh-agent completions zsh > ~/.zfunc/_mesh-agent
  mesh-agent completions fish > ~/.config/fish/completions/mesh-agent.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<Verdict> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "mesh-agent", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(Verdict::Yes)
}
