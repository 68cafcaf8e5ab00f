//! Where maps and links are pinned, and that only one agent uses them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use mesh_common::map;
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::statfs,
};

/// `statfs` type of a bpffs.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The folder of one agent on a bpffs, one sub-folder for each ABI version.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    versioned: PathBuf,
    /// Held as long as the agent lives, whichever way it ends.
    _lock: Flock<File>,
}

/// Why the pins can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    #[error(
        "{0} is not on a bpffs: mount one (`mount -t bpf bpf /sys/fs/bpf`) or set capture.pins"
    )]
    NotBpfFs(PathBuf),
    #[error(
        "another agent uses {0}: stop it first (`mesh-agent status` shows its pid), \
         or give this one a capture.pins of its own"
    )]
    InUse(PathBuf),
    #[error("can't prepare {path}: {error}; the agent needs root or CAP_BPF and CAP_SYS_ADMIN")]
    Io { path: PathBuf, error: io::Error },
}

impl Pins {
    /// Takes possession of `root`, creating it where needed.
    pub fn open(root: &Path) -> Result<Self, PinsError> {
        let io = |error| PinsError::Io { path: root.to_owned(), error };
        if !is_on_bpffs(root) {
            return Err(PinsError::NotBpfFs(root.to_owned()));
        }
        fs::create_dir_all(root).map_err(io)?;
        let lock = Flock::lock(File::open(root).map_err(io)?, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| match errno {
                nix::errno::Errno::EWOULDBLOCK => PinsError::InUse(root.to_owned()),
                errno => io(errno.into()),
            })?;
        let versioned = root.join(format!("v{}", map::ABI_VERSION));
        for folder in ["maps", "links"] {
            fs::create_dir_all(versioned.join(folder)).map_err(io)?;
        }
        Ok(Self { root: root.to_owned(), versioned, _lock: lock })
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.versioned.join("maps").join(name)
    }

    /// One link for each hook and cgroup.
    pub fn link(&self, cgroup: u64, hook: &str) -> PathBuf {
        self.links().join(format!("{cgroup}-{hook}"))
    }

    pub fn links(&self) -> PathBuf {
        self.versioned.join("links")
    }

    /// Links that an agent of another ABI version left. Two versions must not
    /// both redirect; the new one attaches first, then these go.
    pub fn outdated(&self) -> Vec<PathBuf> {
        entries(&self.root).into_iter().filter(|path| *path != self.versioned).collect()
    }
}

/// The nearest existing ancestor decides.
pub(super) fn is_on_bpffs(path: &Path) -> bool {
    (path.ancestors())
        .find_map(|ancestor| statfs(ancestor).ok())
        .is_some_and(|stat| stat.filesystem_type().0 == BPF_FS_MAGIC)
}

/// Detaches all hooks and removes all maps pinned under `root`. Refused while
/// an agent runs on them. Returns what was removed.
pub fn uninstall(root: &Path) -> anyhow::Result<Vec<String>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    drop(Pins::open(root)?);
    let mut removed = Vec::new();
    remove_tree(root, &mut removed).with_context(|| format!("removing {}", root.display()))?;
    Ok(removed)
}

/// Links go before maps, so that no hook runs without its maps. (It wouldn't
/// matter: a program holds its maps. It reads better in the log.)
pub(super) fn remove_tree(folder: &Path, removed: &mut Vec<String>) -> io::Result<()> {
    for path in entries(folder) {
        if path.is_dir() {
            remove_tree(&path, removed)?;
        } else {
            fs::remove_file(&path)?;
            removed.push(path.display().to_string());
        }
    }
    fs::remove_dir(folder)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = (fs::read_dir(folder).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}
