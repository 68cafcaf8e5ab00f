//! The pods of this node as the kernel knows them: which cgroup is whose, and
//! which of them are captured.
//!
//! The kubelet makes a cgroup for each pod before its first container starts,
//! and names it after the pod's UID. Nothing here asks the kubelet or the
//! container runtime: the tree of cgroups says enough.

mod cgroup;
mod kubepods;
mod selection;

pub use cgroup::{PodCgroup, pod_of};
pub use kubepods::{Folder, Kubepods, Watch, find, find_at};
pub use selection::{NotCaptured, is_captured};

use std::{collections::BTreeSet, sync::Arc};

use super::Pod;

/// What the cluster says of the pods of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePods {
    pub pods: Arc<[Arc<Pod>]>,
    /// Namespaces that have the label.
    pub captured_namespaces: Arc<BTreeSet<Arc<str>>>,
}
