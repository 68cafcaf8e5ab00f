//! What `run` makes by itself where it is missing: a bpffs at its usual place,
//! and the captured cgroups.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
};

use super::pins::is_on_bpffs;

/// Where every distribution mounts its bpffs.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// Makes what is missing. What can't be made is left for [`super::required`]
/// to report, with what to do about it.
pub fn prepare(pins: &Path, cgroups: &[PathBuf]) {
    if is_mountable(pins) {
        match mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>) {
            Ok(()) => tracing::info!(
                "mounted a bpffs at {BPFFS}: pins last as long as this mount namespace"
            ),
            Err(error) => tracing::warn!(%error, "mounting a bpffs at {BPFFS} failed"),
        }
    }
    for cgroup in cgroups.iter().filter(|cgroup| is_makeable(cgroup)) {
        match fs::create_dir_all(cgroup) {
            // A warning, because it may be a typing error.
            Ok(()) => tracing::warn!(
                cgroup = %cgroup.display(),
                "there was no such cgroup: made it, empty; nothing is captured until a process is in it"
            ),
            Err(error) => {
                tracing::warn!(cgroup = %cgroup.display(), %error, "can't make the cgroup");
            }
        }
    }
}

/// Whether pins would be on a bpffs if one were mounted where it belongs.
pub(super) fn is_mountable(pins: &Path) -> bool {
    pins.starts_with(BPFFS) && !is_on_bpffs(pins) && Path::new(BPFFS).is_dir()
}

/// Whether a cgroup is missing below a cgroup v2 hierarchy.
pub(super) fn is_makeable(cgroup: &Path) -> bool {
    !cgroup.exists()
        && (cgroup.ancestors())
            .find(|ancestor| ancestor.exists())
            .and_then(|ancestor| statfs(ancestor).ok())
            .is_some_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}
