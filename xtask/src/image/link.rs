//! Static binaries: an image FROM scratch has no library to load.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{process, workspace};

/// A binary that needs nothing but a kernel.
#[derive(Debug)]
pub struct Static {
    pub path: PathBuf,
    /// What it was linked with, in words.
    pub libc: String,
}

/// musl where this machine has it, else the C library that it has anyway.
pub fn build(package: &str, debug: bool) -> Result<Static> {
    let profile = if debug { "debug" } else { "release" };
    let folder = workspace::target()?.join("image").join(profile);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(package);
    let target = format!("{ARCH}-unknown-linux-musl");
    let libc = if has_musl(&target) {
        let mut command = cargo(&["build", "--package", package, "--target", &target], debug);
        process::run(&mut command)?;
        copy(&workspace::target()?.join(&target).join(profile).join(package), &path)?;
        "musl"
    } else {
        with_glibc(package, debug, &path)?;
        "glibc: musl isn't here (it takes the Rust target and musl-gcc)"
    };
    ensure!(
        is_static(&path)?,
        "{} is not static, it would not start in an empty image: is libc.a here \
         (Debian: libc6-dev)?",
        path.display()
    );
    Ok(Static { path, libc: libc.to_owned() })
}

/// Only the last step differs from a usual build, so its crates serve here too:
/// the libraries ask for the form of libc when they are linked.
fn with_glibc(package: &str, debug: bool, path: &Path) -> Result<()> {
    let linked = workspace::target()?.join(if debug { "debug" } else { "release" }).join(package);
    let mut command = cargo(&["rustc", "--package", package, "--bin", package], debug);
    command.args(["--", "-C", "target-feature=+crt-static"]);
    if !debug {
        command.args(["-C", "strip=symbols"]);
    }
    process::run(&mut command)?;
    copy(&linked, path)?;
    // Tests and people find the usual one where it was.
    process::run(&mut cargo(&["build", "--package", package, "--bin", package], debug))
}

fn cargo(arguments: &[&str], debug: bool) -> Command {
    let mut command = process::cargo(arguments[0]);
    command.arg("--quiet").args(&arguments[1..]);
    if !debug {
        command.arg("--release");
    }
    command
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // A new file: the old one may be running.
    let unfinished = to.with_extension("new");
    fs::copy(from, &unfinished)
        .and_then(|_| fs::rename(&unfinished, to))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// The standard library for it, and a compiler for the C that crates bring.
fn has_musl(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let library = process::output(&mut rustc).is_ok_and(|path| Path::new(path.trim()).is_dir());
    library && process::find_program("musl-gcc").is_some()
}

/// Whether the kernel starts it by itself: the file names no interpreter.
pub fn is_static(path: &Path) -> Result<bool> {
    let file = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    interpreters(&file)
        .map(|count| count == 0)
        .with_context(|| format!("{} is no 64-bit ELF file", path.display()))
}

/// How many program headers of an ELF file (64 bit, little endian) are `PT_INTERP`.
fn interpreters(file: &[u8]) -> Option<usize> {
    const PT_INTERP: u32 = 3;
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let start = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (usize::try_from(number(54, 2)?).ok()?, number(56, 2)?);
    let mut found = 0;
    for index in 0..usize::try_from(count).ok()? {
        let kind = number(start.checked_add(index * size)?, 4)?;
        found += usize::from(kind == u64::from(PT_INTERP));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_libraries_is_not_static() {
        // This very test is not: its host's libc is shared.
        let me = std::env::current_exe().unwrap();
        assert!(!is_static(&me).unwrap());
        assert!(is_static(Path::new("/dev/null")).is_err());
    }
}
