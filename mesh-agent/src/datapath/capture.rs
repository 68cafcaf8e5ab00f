//! Which network namespaces captured processes live in.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::model::Capture;

/// The namespaces of captured processes, by inode.
#[derive(Debug, Default)]
pub struct Captured {
    /// A process that lives there, and how many do.
    pub occupied: HashMap<u64, (u32, usize)>,
    /// Namespaces that somebody keeps by name (`ip netns`): they stay, even
    /// while no process lives there.
    pub named: HashSet<u64>,
}

/// Looks at every process of the captured cgroups.
pub fn scan(capture: &Capture) -> Captured {
    let mut captured = Captured::default();
    for cgroup in &capture.cgroups {
        scan_cgroup(cgroup, &capture.exclude, &mut captured);
    }
    for folder in ["/run/netns", "/run/docker/netns"] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        captured.named.extend(entries.filter_map(|entry| Some(entry.metadata().ok()?.ino())));
    }
    captured
}

fn scan_cgroup(cgroup: &Path, exclude: &[PathBuf], captured: &mut Captured) {
    if exclude.iter().any(|excluded| excluded == cgroup) {
        return;
    }
    // Cgroups and processes come and go while we look: what can't be read is
    // not there any more.
    for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
        let Ok(pid) = pid.parse() else { continue };
        captured.occupied.entry(namespace.ino()).or_insert((pid, 0)).1 += 1;
    }
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            scan_cgroup(&entry.path(), exclude, captured);
        }
    }
}
