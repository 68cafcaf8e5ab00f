//! The pods of this node as they stand, for whoever asks: which are captured,
//! and why others aren't.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    datapath::Root,
    kubernetes::{
        Pod,
        pods::{self as node, Folder, Kubepods, NodePods},
    },
};

/// A pod whose sockets are captured, or are about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CapturedPod {
    pub folder: Folder,
    /// `None` for one that was captured by an earlier agent and that nobody has
    /// told this one of.
    pub pod: Option<Arc<Pod>>,
}

/// One state of all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PodTable {
    tree: Option<Kubepods>,
    known: Option<Arc<NodePods>>,
    /// The UID of the agent's own pod.
    own: Option<String>,
    pub captured: Vec<CapturedPod>,
}

impl PodTable {
    pub fn new(
        tree: Option<Kubepods>,
        known: Option<Arc<NodePods>>,
        own: Option<String>,
        captured: Vec<CapturedPod>,
    ) -> Self {
        Self { tree, known, own, captured }
    }

    /// The cgroup of all pods.
    pub fn tree(&self) -> Option<&Path> {
        self.tree.as_ref().map(|tree| tree.path.as_path())
    }

    /// Where to look for processes of captured pods.
    pub fn roots(&self) -> impl Iterator<Item = Root> + '_ {
        let root = |pod: &CapturedPod| Root { cgroup: pod.folder.path.clone(), is_pod: true };
        self.captured.iter().map(root)
    }

    /// Whether `NAMESPACE/POD` is captured; why not.
    pub fn by_name(&self, name: &str) -> Result<&CapturedPod, String> {
        let Some(known) = &self.known else {
            return Err("the cluster hasn't told the agent of any pod yet".to_owned());
        };
        let Some(pod) = known.pods.iter().find(|pod| pod.to_string() == name) else {
            return Err("there is no such pod on this node".to_owned());
        };
        let namespace = known.captured_namespaces.contains(&pod.namespace);
        node::is_captured(pod, namespace, self.own.as_deref()).map_err(|why| why.to_string())?;
        let folder = self.captured.iter().find(|other| other.folder.uid == pod.cgroup_uid());
        folder.ok_or_else(|| "it is to be captured, but has no cgroup yet".to_owned())
    }

    /// The pod that a cgroup is of, captured or not.
    pub fn pod_of(&self, cgroup: &str) -> Option<&Arc<Pod>> {
        let of = node::pod_of(cgroup)?;
        self.known.as_ref()?.pods.iter().find(|pod| pod.cgroup_uid() == of.uid)
    }

    /// Whether a cgroup of a pod, or below, is captured; why not. `None` for one
    /// that is no pod's.
    pub fn by_cgroup(&self, path: &Path) -> Option<Result<(), String>> {
        let tree = self.tree()?;
        path.strip_prefix(tree).ok()?;
        if self.captured.iter().any(|pod| path.starts_with(&pod.folder.path)) {
            return Some(Ok(()));
        }
        Some(match self.pod_of(&path.to_string_lossy()) {
            Some(pod) => match self.by_name(&pod.to_string()) {
                Ok(_) => Ok(()),
                Err(why) => Err(format!("it is of pod {pod}: {why}")),
            },
            None => Err("no pod that the agent knows of is in there".to_owned()),
        })
    }
}

/// The table, and who waits for it.
#[derive(Debug)]
pub(crate) struct Pods {
    table: watch::Sender<(u64, Arc<PodTable>)>,
    /// The generation of the table whose pods all have been listened in.
    scanned: watch::Sender<u64>,
    /// Why pods that should be captured aren't.
    refused: Mutex<Option<String>>,
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            table: watch::Sender::new(Default::default()),
            scanned: watch::Sender::new(0),
            refused: Mutex::default(),
        }
    }
}

impl Pods {
    pub fn table(&self) -> Arc<PodTable> {
        Arc::clone(&self.table.borrow().1)
    }

    pub fn watch(&self) -> watch::Receiver<(u64, Arc<PodTable>)> {
        self.table.subscribe()
    }

    /// Returns the generation that this is.
    pub fn publish(&self, table: PodTable) -> u64 {
        self.table.send_if_modified(|(generation, now)| {
            let differs = **now != table;
            if differs {
                *generation += 1;
                *now = Arc::new(table);
            }
            differs
        });
        self.table.borrow().0
    }

    /// All pods of this generation of the table have listeners, or can't.
    pub fn note_scanned(&self, generation: u64) {
        self.scanned.send_if_modified(|now| std::mem::replace(now, generation) != generation);
    }

    pub fn watch_scanned(&self) -> watch::Receiver<u64> {
        self.scanned.subscribe()
    }

    pub fn set_refused(&self, refused: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where the agent looks for processes, in this order: the file's cgroups, then
/// captured pods. Of all other pods it looks at none.
pub(crate) fn places(
    capture: &crate::model::Capture,
    table: &PodTable,
) -> (Vec<Root>, Vec<PathBuf>) {
    let root = |cgroup: &PathBuf| Root { cgroup: cgroup.clone(), is_pod: false };
    let roots = capture.cgroups.iter().map(root).chain(table.roots()).collect();
    let exclude = capture.exclude.iter().cloned().chain(table.tree().map(Path::to_owned));
    (roots, exclude.collect())
}
