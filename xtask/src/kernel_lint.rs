//! clippy for the kernel programs, with the compiler that builds them: the one
//! of rustup's stable toolchain has no `core` for BPF to lint against.

use std::{fmt, path::Path, process::Command};

use crate::{
    process,
    toolchain::{TARGET, Toolchain},
};

impl Toolchain {
    /// clippy over mesh-ebpf (and mesh-common as it sees it); warnings are errors.
    pub fn clippy(&self, target_dir: &Path) -> Command {
        match self {
            // What `cargo clippy` does: check, with clippy's driver around rustc. cargo's own
            // subcommand would take the driver of rustup, which is another version.
            Self::Prebuilt { rustc } => {
                let mut command = self.cargo("check", target_dir);
                command.env("RUSTC_WORKSPACE_WRAPPER", rustc.with_file_name("clippy-driver"));
                command.env("CLIPPY_ARGS", "-Dwarnings").arg("--quiet");
                command
            }
            Self::Nightly => {
                let mut command = self.cargo("clippy", target_dir);
                command.args(["--quiet", "--", "-D", "warnings"]);
                command
            }
        }
    }

    pub fn has_clippy(&self) -> bool {
        match self {
            Self::Prebuilt { rustc } => rustc.with_file_name("clippy-driver").is_file(),
            Self::Nightly => process::succeeds(Command::new("rustup").args([
                "run",
                "nightly",
                "clippy-driver",
                "--version",
            ])),
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prebuilt { rustc } => write!(f, "{} (has core for {TARGET})", rustc.display()),
            Self::Nightly => f.write_str("rustup's nightly (builds core from rust-src)"),
        }
    }
}
