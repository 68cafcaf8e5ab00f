//! What is in the images, and how they are started.

use anyhow::Result;
use serde_json::{Value, json};

use super::tar::Tar;

/// A program of the workspace that becomes an image.
#[derive(Debug)]
pub struct Program {
    /// Its package, its binary and its image are called the same.
    pub package: &'static str,
    title: &'static str,
    /// Run where nothing else is said.
    arguments: &'static [&'static str],
    user: &'static str,
}

/// root: it loads programs into the kernel.
pub const AGENT: Program = Program {
    package: "mesh-agent",
    title: "Data plane of a service mesh without sidecars: one agent per node",
    arguments: &["run", "--config", "/etc/mesh-agent/mesh.yaml"],
    user: "0:0",
};

pub const BOOKINFO: Program = Program {
    package: "bookinfo",
    title: "A small Bookinfo for demos: one program, four roles",
    arguments: &["productpage"],
    user: "65532:65532",
};

impl Program {
    /// Its place in the image; found by its bare name too.
    fn path(&self) -> String {
        format!("usr/bin/{}", self.package)
    }

    /// The file system. Folders are there that something is mounted to.
    pub fn layer(&self, binary: &[u8]) -> Result<Vec<u8>> {
        let mut tar = Tar::default();
        for folder in ["etc", "proc", "run", "sys", "tmp", "usr", "usr/bin"] {
            tar.folder(folder)?;
        }
        tar.file(&self.path(), binary, 0o755)?;
        Ok(tar.finish())
    }

    /// The image's configuration. No time of creation: it would differ each time.
    pub fn config(&self, layer: &str) -> Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": self.user,
                "Env": ["PATH=/usr/bin"],
                "Entrypoint": [format!("/{}", self.path())],
                "Cmd": self.arguments,
                "WorkingDir": "/",
                "Labels": self.labels(),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created_by": "cargo xtask image"}],
        })
    }

    /// By the keys that the OCI names.
    pub fn labels(&self) -> Value {
        json!({
            "org.opencontainers.image.description": self.title,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.title": self.package,
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// This machine's, as Go calls it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
