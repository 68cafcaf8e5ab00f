//! `cargo xtask setup`: finds out what is missing, and installs only that.
//!
//! What is there is decided by looking for the thing itself (a program, a
//! compiler that has `core` for BPF), never by asking a package manager: how it
//! came onto the machine is the user's choice.

mod bpffs;
pub mod debian;
mod install;
mod requirement;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::toolchain::{self, Toolchain};

/// Install what is missing: the compiler for kernel programs, and the tools that the tests call.
///
/// On Debian, as root, packages are installed with apt-get (no service is
/// started); elsewhere the compiler comes from rustup. Where nothing is missing,
/// nothing is done. The other commands call this by themselves.
#[derive(Debug, Clone, Copy, Args)]
pub struct Arguments {
    /// What the machine is to be used for; each includes the ones before it
    #[arg(long = "for", value_enum, default_value_t = Purpose::Ci)]
    pub purpose: Purpose,
}

/// What the machine is to be used for; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Purpose {
    /// Compile the kernel programs and the agent
    Build,
    /// Also run the tests and the demo: web servers, DNS, load generators
    Test,
    /// Also lint the kernel programs
    Ci,
}

/// Makes the machine fit for this purpose, and says what is used.
pub fn run(purpose: Purpose) -> Result<()> {
    if ensure(purpose)? == Changed::Nothing {
        println!("nothing to install");
    }
    println!("kernel programs are compiled with {}", describe_toolchain());
    Ok(())
}

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Nothing,
    Something,
}

/// Installs what is missing, and is silent where nothing is.
pub fn ensure(purpose: Purpose) -> Result<Changed> {
    let missing = requirement::missing(purpose);
    let mounted = purpose >= Purpose::Test && bpffs::ensure()?;
    if missing.is_empty() {
        return Ok(if mounted { Changed::Something } else { Changed::Nothing });
    }
    println!("missing here:");
    for item in &missing {
        println!("  {:<20} {}", item.name, item.used_for);
    }
    install::install(&missing)?;
    let left: Vec<&str> = requirement::missing(purpose).iter().map(|item| item.name).collect();
    anyhow::ensure!(
        left.is_empty(),
        "installed without an error, and yet not found: {}; look at the lines above",
        left.join(", ")
    );
    println!("setup is complete");
    Ok(Changed::Something)
}

fn describe_toolchain() -> String {
    let linker =
        toolchain::linker().map_or("no bpf-linker".to_owned(), |path| path.display().to_string());
    match Toolchain::find() {
        Ok(toolchain) => format!("{toolchain}, linked with {linker}"),
        Err(missing) => missing.message(),
    }
}
