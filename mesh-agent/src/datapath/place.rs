//! Where a cgroup stands in its hierarchy: its id and its depth, which is how
//! the hooks ask whether the current task is in it.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};

/// The kernel's id of the root of cgroup v2.
const ROOT: u64 = 1;

/// The id and the depth of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub id: u64,
    pub level: u32,
}

impl Place {
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let mounts = cgroup2_mounts();
        let mount = (mounts.iter().filter(|mount| path.starts_with(mount)))
            .max_by_key(|mount| mount.components().count())
            .ok_or_else(|| match mounts.first() {
                None => anyhow!("no cgroup v2 hierarchy is mounted"),
                Some(mount) => anyhow!("{} is not below {}", path.display(), mount.display()),
            })?;
        let root = fs::metadata(mount).with_context(|| mount.display().to_string())?.ino();
        // Depths are counted from the root of the whole hierarchy, which can't be
        // seen from inside: hooks would look at the wrong cgroups.
        ensure!(
            root == ROOT,
            "{} shows a part of the cgroup hierarchy only, as in a cgroup namespace: \
             run the agent in the node's own (a privileged container, or cgroupns: host)",
            mount.display()
        );
        let id = fs::metadata(path)
            .with_context(|| format!("can't open the cgroup {}", path.display()))?
            .ino();
        let below = path.strip_prefix(mount)?;
        Ok(Self { id, level: below.components().count() as u32 })
    }
}

/// Where cgroup v2 is mounted: on a hybrid system, or in a container, not only
/// at `/sys/fs/cgroup`.
pub fn cgroup2_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mount = |line: &str| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    };
    mounts.lines().filter_map(mount).collect()
}

/// The cgroup of this process.
pub(super) fn own_cgroup() -> anyhow::Result<PathBuf> {
    let mine = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    let below = (mine.lines().find_map(|line| line.strip_prefix("0::/")))
        .context("this process is in no cgroup v2")?;
    let mount = cgroup2_mounts().into_iter().next().context("no cgroup v2 is mounted")?;
    Ok(if below.is_empty() { mount } else { mount.join(below) })
}

/// How many cgroups are looked at at once.
const LISTED: usize = 8192;

/// The paths of these cgroups and of all below, as /proc shows them, by their
/// ids.
pub fn cgroup_names(roots: impl IntoIterator<Item = PathBuf>) -> HashMap<u64, String> {
    let mounts = cgroup2_mounts();
    let mut waiting: Vec<PathBuf> = roots.into_iter().collect();
    let mut names = HashMap::new();
    while let Some(path) = waiting.pop()
        && names.len() < LISTED
    {
        let Ok(found) = fs::metadata(&path) else { continue };
        if let Some(below) = mounts.iter().find_map(|mount| path.strip_prefix(mount).ok()) {
            names.insert(found.ino(), format!("/{}", below.display()));
        }
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(folders.map(|entry| entry.path()));
    }
    names
}

/// The cgroups that hooks belong on: those that the file names and the one of
/// all pods, none of them twice. One inside another would run the hooks twice.
pub fn hooked(cgroups: &[PathBuf], pods: Option<&Path>) -> Vec<PathBuf> {
    let Some(pods) = pods else { return cgroups.to_vec() };
    let mut hooked: Vec<PathBuf> = (cgroups.iter())
        .filter(|cgroup| *cgroup == pods || !cgroup.starts_with(pods))
        .cloned()
        .collect();
    if !hooked.iter().any(|cgroup| pods.starts_with(cgroup)) {
        hooked.push(pods.to_owned());
    }
    hooked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_stand_above_all_pods_once() {
        let hooked = |cgroups: &[&str]| -> Vec<String> {
            let cgroups: Vec<PathBuf> = cgroups.iter().map(PathBuf::from).collect();
            let hooked = hooked(&cgroups, Some(Path::new("/c/kubepods")));
            hooked.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(hooked(&[]), ["/c/kubepods"]);
        assert_eq!(hooked(&["/c/mesh"]), ["/c/mesh", "/c/kubepods"]);
        assert_eq!(hooked(&["/c/kubepods"]), ["/c/kubepods"]);
        assert_eq!(hooked(&["/c"]), ["/c"]);
        assert_eq!(
            hooked(&["/c/kubepods/pod1", "/c/kubepods-x"]),
            ["/c/kubepods-x", "/c/kubepods"]
        );
        assert_eq!(super::hooked(&["/a".into()], None), [PathBuf::from("/a")]);
    }
}
