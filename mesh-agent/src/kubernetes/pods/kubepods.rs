//! The tree of cgroups that the kubelet keeps pods in: where it is, which pods
//! are in it, and when that changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::cgroup::{is_class, is_kubepods, pod_uid};

/// How deep below a mount point the tree is looked for: a kubelet inside a
/// container, with a parent of its own, is the deepest that is common.
const DEEPEST: usize = 4;

/// The cgroup of all pods. The kubelet keeps it over its own restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubepods {
    pub path: PathBuf,
    /// The kernel's id of it, which is never used twice.
    pub id: u64,
}

/// A pod's own cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub uid: String,
    pub path: PathBuf,
    pub id: u64,
}

/// The tree nearest to the top below one of `roots`, a populated one first:
/// one of another driver may be left from before a change.
pub fn find(roots: &[PathBuf]) -> Option<Kubepods> {
    let mut level: Vec<PathBuf> = roots.to_vec();
    for _ in 0..DEEPEST {
        let mut below: Vec<PathBuf> = level.iter().flat_map(|path| folders(path)).collect();
        below.sort();
        let trees = below.iter().filter(|path| is_kubepods(name(path)));
        let tree = trees.min_by_key(|path| !is_populated(path));
        if let Some(found) = tree.and_then(|path| Kubepods::at(path).ok()) {
            return Some(found);
        }
        level = below;
    }
    None
}

/// The tree at this place, or below it.
pub fn find_at(path: &Path) -> Option<Kubepods> {
    if is_kubepods(name(path)) { Kubepods::at(path).ok() } else { find(&[path.to_owned()]) }
}

impl Kubepods {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id(path)? })
    }

    /// Whether the cgroup is still the one that it was.
    pub fn exists(&self) -> bool {
        id(&self.path).is_ok_and(|id| id == self.id)
    }

    /// The cgroups of all pods that are there now.
    pub fn pods(&self) -> Vec<Folder> {
        let mut found = Vec::new();
        for path in self.parents().iter().flat_map(|parent| folders(parent)) {
            let Some(uid) = pod_uid(name(&path)) else { continue };
            // One that went away meanwhile is none.
            let Ok(id) = id(&path) else { continue };
            found.push(Folder { uid, path, id });
        }
        found
    }

    /// Whose children pods are: the tree itself, and the classes in it.
    fn parents(&self) -> Vec<PathBuf> {
        let classes = folders(&self.path).into_iter().filter(|path| is_class(name(path)));
        std::iter::once(self.path.clone()).chain(classes).collect()
    }

    /// The tree of the pod that process `pid` is in.
    pub fn pod_of_process(&self, pid: u32) -> Option<Folder> {
        let pid = pid.to_string();
        self.pods().into_iter().find(|pod| holds(&pod.path, &pid))
    }
}

impl Folder {
    /// Whether a process lives in there.
    pub fn is_populated(&self) -> bool {
        is_populated(&self.path)
    }
}

/// Says when pods come and go.
#[derive(Debug)]
pub struct Watch {
    watcher: notify::RecommendedWatcher,
    watched: Vec<PathBuf>,
}

impl Watch {
    /// Sends to `changed` whenever a cgroup was made or removed beside pods.
    pub fn new(changed: mpsc::Sender<()>) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading files of a cgroup is an event too.
            let counts = event
                .as_ref()
                .map_or(true, |e| e.kind.is_create() || e.kind.is_remove() || e.need_rescan());
            if counts {
                // Full: somebody was told already.
                let _ = changed.try_send(());
            }
        })?;
        Ok(Self { watcher, watched: Vec::new() })
    }

    /// Watches what pods are made in, and nothing else; whether there is
    /// anything in there that was made before it was watched.
    pub fn follow(&mut self, tree: &Kubepods) -> bool {
        let parents = tree.parents();
        let mut late = false;
        self.watched.retain(|path| {
            let stays = parents.contains(path);
            if !stays {
                // Gone: the kernel has removed the watch.
                let _ = self.watcher.unwatch(path);
            }
            stays
        });
        for path in parents {
            if self.watched.contains(&path) {
                continue;
            }
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    late = true;
                    self.watched.push(path);
                }
                Err(error) => {
                    tracing::debug!(cgroup = %path.display(), %error, "can't be watched for pods");
                }
            }
        }
        late
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn id(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.ino())
}

fn is_populated(path: &Path) -> bool {
    let events = fs::read_to_string(path.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

fn holds(path: &Path, pid: &str) -> bool {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    processes.lines().any(|line| line == pid) || folders(path).iter().any(|below| holds(below, pid))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tempfile::TempDir;

    use super::*;

    const UID: &str = "8c6b1a3e-1b7f-4a0e-9f0c-0a1b2c3d4e5f";

    fn tree(folders: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        root
    }

    fn found(folders: &[&str]) -> Option<String> {
        let root = tree(folders);
        let tree = find(&[root.path().to_owned()])?;
        Some(tree.path.strip_prefix(root.path()).unwrap().display().to_string())
    }

    #[test]
    fn the_tree_is_found_where_kubelets_put_it() {
        let beside = ["system.slice/kubelet.service", "init.scope", "user.slice"];
        for path in [
            "kubepods.slice",
            "kubepods",
            "kubelet/kubepods",
            "kubelet.slice/kubelet-kubepods.slice",
            "docker/0123456789ab/kubelet/kubepods",
        ] {
            let folders = [&beside[..], &[path]].concat();
            assert_eq!(found(&folders).as_deref(), Some(path));
        }
        assert_eq!(found(&beside), None);
        assert_eq!(found(&["a/b/c/d/kubepods"]), None, "too deep");
    }

    #[test]
    fn of_two_the_one_with_processes() {
        let root = tree(&["kubepods", "kubepods.slice"]);
        fs::write(root.path().join("kubepods/cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        fs::write(root.path().join("kubepods.slice/cgroup.events"), "populated 1\nfrozen 0\n")
            .unwrap();
        let found = find(&[root.path().to_owned()]).unwrap();
        assert_eq!(found.path, root.path().join("kubepods.slice"));
    }

    #[test]
    fn pods_of_all_classes_are_listed_and_nothing_else() {
        let second = UID.replace('8', "9");
        let root = tree(&[
            &format!("kubepods/pod{UID}/0123456789abcdef"),
            &format!("kubepods/burstable/pod{second}"),
            "kubepods/besteffort",
            "kubepods/other",
        ]);
        let tree = find(&[root.path().to_owned()]).unwrap();
        let mut uids: Vec<_> = tree.pods().into_iter().map(|pod| pod.uid).collect();
        uids.sort();
        assert_eq!(uids, [UID.to_owned(), second]);
        assert!(tree.pods().iter().all(|pod| id(&pod.path).unwrap() == pod.id));
        assert!(tree.exists());
        fs::remove_dir_all(&tree.path).unwrap();
        assert!(!tree.exists() && tree.pods().is_empty());
    }

    #[tokio::test]
    async fn a_pod_in_a_class_that_is_new_too_is_noticed() {
        let root = tree(&["kubepods"]);
        let tree = find(&[root.path().to_owned()]).unwrap();
        let (changed, mut changes) = mpsc::channel(1);
        let mut watch = Watch::new(changed).unwrap();
        assert!(watch.follow(&tree));
        let within = Duration::from_secs(10);
        fs::create_dir(tree.path.join("burstable")).unwrap();
        tokio::time::timeout(within, changes.recv()).await.unwrap().unwrap();
        assert!(watch.follow(&tree), "the class wasn't watched before");
        let pod = tree.path.join(format!("burstable/pod{UID}"));
        for _ in 0..2 {
            fs::create_dir(&pod).unwrap();
            tokio::time::timeout(within, changes.recv()).await.unwrap().unwrap();
            assert!(!watch.follow(&tree));
            fs::remove_dir(&pod).unwrap();
            tokio::time::timeout(within, changes.recv()).await.unwrap().unwrap();
        }
    }
}
