//! Which network namespaces captured processes live in.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A cgroup whose processes are captured, with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub cgroup: PathBuf,
    /// It is a pod's, which has a namespace of its own: what lives in the
    /// host's is the container runtime's (`conmon`).
    pub is_pod: bool,
}

/// Who lives in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Occupant {
    /// One of them.
    pub pid: u32,
    pub processes: usize,
    /// The root that it was found below, by its place in the list.
    pub root: usize,
}

/// The namespaces of captured processes, by inode.
#[derive(Debug, Default)]
pub struct Captured {
    pub occupied: HashMap<u64, Occupant>,
    /// Namespaces that somebody keeps by name (`ip netns`): they stay, even
    /// while no process lives there.
    pub named: HashSet<u64>,
}

/// Looks at every process below `roots`, except below `exclude`. An error where
/// it couldn't look: what it didn't see may still be there.
pub fn scan(roots: &[Root], exclude: &[PathBuf]) -> io::Result<Captured> {
    let mut captured = Captured::default();
    let host = fs::metadata("/proc/1/ns/net").map(|namespace| namespace.ino()).ok();
    for (index, root) in roots.iter().enumerate() {
        let look = Look { root: index, without: host.filter(|_| root.is_pod), exclude };
        look.at(&root.cgroup, &mut captured)?;
    }
    for folder in ["/run/netns", "/run/docker/netns"] {
        let entries = seen(fs::read_dir(folder))?.into_iter().flatten().flatten();
        captured.named.extend(entries.filter_map(|entry| Some(entry.metadata().ok()?.ino())));
    }
    Ok(captured)
}

/// Cgroups and processes come and go while we look: what can't be read is not
/// there any more, unless it's us who can't read anything now.
fn seen<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if [libc::EMFILE, libc::ENFILE, libc::ENOMEM]
                .map(Some)
                .contains(&error.raw_os_error()) =>
        {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

/// One root being looked at.
struct Look<'a> {
    root: usize,
    /// A namespace that doesn't count.
    without: Option<u64>,
    exclude: &'a [PathBuf],
}

impl Look<'_> {
    fn at(&self, cgroup: &Path, captured: &mut Captured) -> io::Result<()> {
        if self.exclude.iter().any(|excluded| excluded == cgroup) {
            return Ok(());
        }
        let processes = seen(fs::read_to_string(cgroup.join("cgroup.procs")))?.unwrap_or_default();
        for pid in processes.lines() {
            let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
            let Ok(pid) = pid.parse() else { continue };
            if self.without == Some(namespace.ino()) {
                continue;
            }
            let first = Occupant { pid, processes: 0, root: self.root };
            captured.occupied.entry(namespace.ino()).or_insert(first).processes += 1;
        }
        for entry in seen(fs::read_dir(cgroup))?.into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.at(&entry.path(), captured)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_differs_from_what_cannot_be_read_now() {
        let seen = |code| seen::<()>(Err(io::Error::from_raw_os_error(code)));
        assert_eq!(seen(libc::ENOENT).unwrap(), None);
        assert_eq!(seen(libc::ENODEV).unwrap(), None);
        assert!(seen(libc::EMFILE).is_err());
    }
}
