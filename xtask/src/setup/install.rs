//! Installs requirements: packages by apt-get, the compiler by whichever of the
//! two routes is open, bpf-linker by cargo.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{
    debian,
    requirement::{Requirement, Source},
};
use crate::{
    process,
    toolchain::{self, Toolchain},
};

/// The last one that this LLVM of Debian fits.
const LINKER: &str = "bpf-linker@0.13.0";

pub fn install(missing: &[Requirement]) -> Result<()> {
    let lacks_linker = missing.iter().any(|item| item.source == Source::KernelLinker);
    let root = process::is_root()?;
    let mut packages: Vec<&str> = Vec::new();
    for item in missing {
        if let Source::Program(names) = item.source {
            packages.extend(names);
        }
    }
    let lacks_compiler = missing
        .iter()
        .any(|item| matches!(item.source, Source::KernelCompiler | Source::KernelClippy));
    let debian_route = (lacks_compiler || lacks_linker) && has_debian_route(root)?;
    if debian_route && (lacks_compiler || !debian::has_llvm()) {
        packages.extend(debian::COMPILER);
    } else if lacks_compiler {
        rustup()?;
    }
    if !packages.is_empty() {
        if !(root && debian::is_here()) {
            bail!(by_hand(&packages));
        }
        debian::update()?;
        debian::install(&packages)?;
    }
    if lacks_linker {
        linker(debian_route)?;
    }
    Ok(())
}

/// Whether the compiler is, or will be, the one that Debian ships: what is
/// there decides, then what can be installed. Without root, rustup can install
/// into the home of its user.
fn has_debian_route(root: bool) -> Result<bool> {
    if let Some(toolchain) = Toolchain::find_compiler() {
        return Ok(debian::is_here() && matches!(toolchain, Toolchain::Prebuilt { .. }));
    }
    if !debian::is_here() || (!root && process::find_program("rustup").is_some()) {
        return Ok(false);
    }
    if root {
        debian::update()?;
    }
    Ok(debian::offers(&debian::COMPILER))
}

/// What to type where we may not install, or don't know how.
fn by_hand(packages: &[&str]) -> String {
    let words = packages.join(" ");
    if debian::is_here() {
        format!(
            "installing packages needs root; type\n  sudo apt-get update && \
             sudo apt-get install --no-install-recommends {words}\nand then this command again"
        )
    } else {
        format!(
            "this is no Debian, so these packages (by Debian's names) are yours to install: {words}"
        )
    }
}

/// rustup's route: the nightly compiler builds `core` from its source.
fn rustup() -> Result<()> {
    if process::find_program("rustup").is_none() {
        bail!(
            "no compiler for the kernel programs can be installed here. Either:\n  \
             - on Debian, as root: apt-get install --no-install-recommends {}\n  \
             - elsewhere: install rustup (https://rustup.rs), then run this command again",
            debian::COMPILER.join(" ")
        );
    }
    println!("installing rustup's nightly with rust-src");
    process::run(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src,clippy",
    ]))
    .context(
        "rustup could not install the nightly compiler; on Debian, root may install its own \
         instead: run `cargo xtask setup` as root",
    )
}

fn linker(with_debian_llvm: bool) -> Result<()> {
    let mut command;
    if with_debian_llvm {
        println!("installing bpf-linker with cargo, against Debian's LLVM");
        command = process::cargo("install");
        command.args([LINKER, "--locked", "--no-default-features", "--features", debian::LLVM]);
        // Without it the link step looks for libLLVM in the wrong folder.
        command.env("LLVM_PREFIX", debian::LLVM_PREFIX);
    } else if process::find_program("cargo-binstall").is_some() {
        println!("installing bpf-linker with cargo binstall");
        command = process::cargo("binstall");
        command.args(["--no-confirm", "bpf-linker"]);
    } else {
        println!("installing bpf-linker with cargo, against the LLVM of this machine");
        command = process::cargo("install");
        command.args(["bpf-linker", "--locked"]);
    }
    process::run(&mut command).context(
        "bpf-linker could not be installed. `cargo binstall bpf-linker` fetches a ready one \
         (https://github.com/cargo-bins/cargo-binstall); compiling it needs LLVM's development \
         files, and LLVM_PREFIX set to where they are",
    )?;
    toolchain::linker().map(|_| ()).context("bpf-linker was installed, but not into ~/.cargo/bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_by_hand_names_every_package() {
        let text = by_hand(&["wrk", "curl"]);
        assert!(text.contains("wrk curl"), "{text}");
    }
}
