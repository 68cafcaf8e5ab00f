//! Compiles the kernel programs, which the agent carries inside itself.

use std::{env, error::Error, fs, path::PathBuf};

#[path = "../mesh-ebpf/toolchain.rs"]
mod toolchain;

fn main() -> Result<(), Box<dyn Error>> {
    for path in ["src", "Cargo.toml", "toolchain.rs"] {
        println!("cargo::rerun-if-changed=../mesh-ebpf/{path}");
    }
    println!("cargo::rerun-if-changed=../mesh-common/src");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-env-changed=MESH_BPF_RUSTC");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // target/PROFILE/build/mesh-agent-HASH/out: both profiles share one build.
    let target =
        out.ancestors().nth(4).ok_or("OUT_DIR is shorter than cargo makes it")?.join("ebpf");
    let toolchain = match toolchain::Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            for line in missing.message().lines() {
                println!("cargo::error={line}");
            }
            return Ok(());
        }
    };
    let output = toolchain.cargo("build", &target).current_dir("..").output()?;
    if !output.status.success() {
        return Err(format!(
            "building mesh-ebpf failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    fs::copy(target.join(toolchain::TARGET).join("ebpf/mesh-ebpf"), out.join("mesh-ebpf.o"))?;
    Ok(())
}
