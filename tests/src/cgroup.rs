//! Control groups of version 2: where pods live, and how they are ended.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where cgroup v2 is mounted: /sys/fs/cgroup, or below it on a hybrid system.
pub fn mount_point() -> Result<PathBuf> {
    mounted("cgroup2").context(
        "no cgroup2 file system is mounted: mount one, as with `mount -t cgroup2 none /sys/fs/cgroup`",
    )
}

/// The first mount point of a kind of file system.
pub fn mounted(kind: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, point, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found == kind).then(|| PathBuf::from(point))
    })
}

/// Makes a cgroup, its parents included.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make the cgroup {}", path.display()))
}

/// The file that a process writes `0` to, in order to move into the cgroup.
pub fn door(path: &Path) -> Result<File> {
    let procs = path.join("cgroup.procs");
    File::options()
        .write(true)
        .open(&procs)
        .with_context(|| format!("open {} for writing", procs.display()))
}
