//! `cargo xtask image`: the agent as an OCI image, with no container engine.
//!
//! An image is a folder of JSON and tar files; writing them needs no daemon and
//! no root. It holds one file, the static binary: no shell, no libraries.

mod config;
mod layout;
mod link;
mod tar;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    process,
    setup::{self, Purpose},
    workspace,
};

/// Make an OCI archive of the agent, FROM scratch, without a container engine.
///
/// containerd (`ctr images import`), podman (`podman load`) and docker (`docker load`)
/// take it. The same sources and compiler make the same digest.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Where the archive goes [default: target/image/NAME.tar]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What the image is called [default: localhost/NAME:VERSION]
    #[arg(long, value_name = "NAME:TAG")]
    pub name: Option<String>,
    /// Not optimised: quick to make, slow to run; for tests
    #[arg(long)]
    pub debug: bool,
    /// The sample application instead of the agent
    #[arg(long)]
    pub bookinfo: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let program = if arguments.bookinfo { config::BOOKINFO } else { config::AGENT };
    let binary = link::build(program.package, arguments.debug)?;
    let output = match &arguments.output {
        Some(path) => std::path::absolute(path)?,
        None => workspace::target()?.join("image").join(format!("{}.tar", program.package)),
    };
    let usual = || format!("localhost/{}:{}", program.package, env!("CARGO_PKG_VERSION"));
    let name = arguments.name.clone().unwrap_or_else(usual);
    let digest = write(&program, &binary.path, &name, &output)?;
    println!("{name} {digest}");
    println!("linked statically with {}", binary.libc);
    println!("{} ({} KiB)", output.display(), output.metadata()?.len() / 1024);
    Ok(())
}

/// Returns the digest of the image's manifest.
fn write(program: &config::Program, binary: &Path, name: &str, output: &Path) -> Result<String> {
    let folder = output.parent().context("the archive needs a folder to be in")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let content = fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    let layer = layout::Blob::new(program.layer(&content)?)?;
    let (archive, digest) = layout::archive(program, layer, name)?;
    // In one step: nobody reads half an archive.
    let unfinished = output.with_extension("tar.new");
    fs::write(&unfinished, archive)
        .and_then(|()| fs::rename(&unfinished, output))
        .with_context(|| format!("write {}", output.display()))?;
    Ok(digest)
}

/// SHA-256 by coreutils: one number isn't worth a dependency.
fn sha256(content: &[u8]) -> Result<String> {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };
    let mut command = Command::new("sha256sum");
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = started.context("can't run `sha256sum`: is coreutils installed?")?;
    // Nothing is printed before all is read, so neither waits for the other.
    child.stdin.take().context("its input is piped")?.write_all(content)?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "`{}` failed", process::display(&command));
    let text = String::from_utf8(output.stdout)?;
    let sum = text.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(sum.to_owned())
}

#[cfg(test)]
mod tests;
