//! Finds what compiles the kernel programs. Included by mesh-agent's build
//! script and by xtask, so that both look in the same places.
//!
//! Two routes lead there, and neither is preferred silently (both are printed
//! by `cargo xtask setup`):
//! - rustup: a nightly toolchain with `rust-src`, which builds `core` itself;
//! - a distribution's compiler that ships `core` for BPF (Debian: `rustc-web`
//!   with `libstd-rust-web-dev-bpf`).
//!
//! `MESH_BPF_RUSTC=/path/to/rustc` decides where both are there.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

pub const TARGET: &str = "bpfel-unknown-none";

/// How the kernel programs are compiled.
#[derive(Debug, Clone)]
pub enum Toolchain {
    /// This rustc has `core` for BPF.
    Prebuilt { rustc: PathBuf },
    /// rustup's nightly builds `core` from rust-src.
    Nightly,
}

/// What is missing, in words for the person in front of the screen.
#[derive(Debug)]
pub struct Missing(pub Vec<String>);

impl Missing {
    pub fn message(&self) -> String {
        format!(
            "the kernel programs can't be compiled here:\n{}\n\
             `cargo xtask setup` installs it (Debian: as root; elsewhere: with rustup).",
            self.0.iter().map(|item| format!("  - {item}\n")).collect::<String>()
        )
    }
}

impl Toolchain {
    /// Looks for a compiler and for bpf-linker.
    pub fn find() -> Result<Self, Missing> {
        let mut missing = Vec::new();
        let toolchain = Self::find_compiler();
        if toolchain.is_none() {
            missing.push(
                "a Rust compiler for BPF: Debian's rustc-web with libstd-rust-web-dev-bpf, \
                 or rustup's nightly with rust-src"
                    .to_owned(),
            );
        }
        if linker().is_none() {
            missing.push("bpf-linker, on PATH or in ~/.cargo/bin".to_owned());
        }
        match toolchain {
            Some(toolchain) if missing.is_empty() => Ok(toolchain),
            _ => Err(Missing(missing)),
        }
    }

    /// The compiler alone: `MESH_BPF_RUSTC`, else /usr/bin/rustc where it has
    /// `core` for BPF, else rustup's nightly.
    pub fn find_compiler() -> Option<Self> {
        if let Some(rustc) = env::var_os("MESH_BPF_RUSTC") {
            return Some(Self::Prebuilt { rustc: rustc.into() });
        }
        let rustc = Path::new("/usr/bin/rustc");
        if has_core(rustc) {
            return Some(Self::Prebuilt { rustc: rustc.to_owned() });
        }
        let sysroot =
            output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
        Path::new(&sysroot)
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
            .then_some(Self::Nightly)
    }

    /// `cargo SUBCOMMAND` for the BPF target, into `target_dir`.
    pub fn cargo(&self, subcommand: &str, target_dir: &Path) -> Command {
        let mut command = match self {
            Self::Prebuilt { rustc } => {
                let mut command =
                    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
        };
        command.arg(subcommand);
        if matches!(self, Self::Nightly) {
            command.args(["-Z", "build-std=core"]);
        }
        command.args(["--package", "mesh-ebpf", "--target", TARGET, "--profile", "ebpf"]);
        command.arg("--target-dir").arg(target_dir);
        // Set by the cargo or clippy that runs us, and meant for the host.
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
            "CARGO_BUILD_TARGET",
        ] {
            command.env_remove(name);
        }
        let linker = linker().unwrap_or_else(|| "bpf-linker".into());
        // v3: atomic operations that return the old value, which round robin needs.
        let flags = format!(
            "-Clinker={}\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf\u{1f}-Ctarget-cpu=v3",
            linker.display()
        );
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        command
    }
}

/// bpf-linker, on PATH or where `cargo install` puts it.
pub fn linker() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .chain(home.map(|home| home.join("bin")))
        .map(|folder| folder.join("bpf-linker"))
        .find(|path| path.is_file())
}

/// Whether this rustc comes with `core` for BPF.
pub fn has_core(rustc: &Path) -> bool {
    output(Command::new(rustc).args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN"))
        .is_some_and(|sysroot| {
            Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").is_dir()
        })
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
