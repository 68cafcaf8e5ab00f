//! Keeps the map of captured pods in step with the cluster and with the tree of
//! cgroups, whichever of the two knows of a pod first.
//!
//! A pod that starts is in the map before it has a process: the kubelet makes
//! its cgroup first. One that runs already gets listeners first, and only then
//! are its sockets redirected to them.

mod table;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

pub(super) use self::table::{CapturedPod, PodTable, Pods, places};
use super::agent::Agent;
use crate::{
    datapath,
    kubernetes::pods::{self as node, Kubepods, NodePods, NotCaptured, Watch},
};

/// How often the tree is looked at although nothing was heard of it: the kernel
/// may have lost an event.
const PERIOD: Duration = Duration::from_secs(1);

/// For the listeners of a pod that runs already.
const LISTENERS: Duration = Duration::from_secs(2);

/// What keeps pods from being captured.
pub(super) fn degraded(agent: &Agent) -> Vec<String> {
    let settings = agent.settings();
    if agent.kernel().is_none() || !settings.kubernetes.enabled {
        return Vec::new();
    }
    let table = agent.pods.table();
    let Some(tree) = table.tree() else {
        let todo = match &settings.capture.kubepods {
            Some(path) => format!("there is no {}: correct capture.kubepods", path.display()),
            None => "is there a kubelet, and does the agent see the host's cgroups? \
                     capture.kubepods may name it"
                .to_owned(),
        };
        return vec![format!(
            "the cgroup of this node's pods isn't there: no pod is captured; {todo}"
        )];
    };
    let refused = agent.pods.refused();
    let mut degraded: Vec<String> = (refused.iter())
        .map(|error| format!("pods can't be captured, their sockets are left alone: {error}"))
        .collect();
    let inside =
        settings.capture.cgroups.iter().filter(|path| *path != tree && path.starts_with(tree));
    degraded.extend(inside.map(|path| {
        format!(
            "capture.cgroups names {}, which is a pod's: label the pod or its namespace instead",
            path.display()
        )
    }));
    degraded
}

pub(super) struct Selector {
    agent: Arc<Agent>,
    feed: watch::Receiver<Option<Arc<NodePods>>>,
    tree: Option<Kubepods>,
    /// The UID of the agent's own pod.
    own: Option<String>,
    /// Pods that wait for their listeners: since when, and for which table.
    waiting: HashMap<u64, (Instant, u64)>,
    /// Why pods aren't in the map that should be, so that each is logged once.
    refused: Option<String>,
}

impl Selector {
    /// `None` where there is no cluster to be heard.
    pub fn new(agent: Arc<Agent>) -> Option<Self> {
        let feed = agent.kubernetes()?.cluster.pods();
        Some(Self { agent, feed, tree: None, own: None, waiting: HashMap::new(), refused: None })
    }

    /// So that a start is complete before the hooks are attached: the tree, and
    /// the pods that were captured before.
    pub fn first_look(&mut self) {
        self.look_for_tree();
        self.settle();
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let (changed, mut changes) = mpsc::channel(1);
        let mut scanned = self.agent.pods.watch_scanned();
        let mut watch = match Watch::new(changed) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "can't watch cgroups: new pods are found once a second");
                None
            }
        };
        let mut heard = true;
        loop {
            // What was made before it was watched tells nobody.
            while let (Some(watch), Some(tree)) = (&mut watch, &self.tree)
                && watch.follow(tree)
            {}
            self.settle();
            tokio::select! {
                () = stop.cancelled() => return,
                more = self.feed.changed(), if heard => heard = more.is_ok(),
                Some(()) = changes.recv() => {}
                Ok(()) = scanned.changed() => {}
                () = sleep(PERIOD) => self.follow_tree(),
            }
        }
    }

    /// The kubelet makes its tree when it starts, which may be after us.
    fn follow_tree(&mut self) {
        if self.tree.as_ref().is_some_and(Kubepods::exists) {
            return;
        }
        self.look_for_tree();
        if self.tree.is_none() {
            return;
        }
        // No hook may see a pod before it is known which are captured.
        self.settle();
        if let Err(error) = self.agent.attach_hooks() {
            tracing::error!(error = format!("{error:#}"), "attaching above the pods failed");
        }
    }

    fn look_for_tree(&mut self) {
        let capture = &self.agent.settings().capture;
        let found = match &capture.kubepods {
            Some(path) => node::find_at(path),
            None => node::find(&datapath::cgroup2_mounts()),
        };
        if found == self.tree {
            return;
        }
        if let Some(tree) = &found {
            self.own = tree.pod_of_process(std::process::id()).map(|pod| pod.uid);
            tracing::info!(cgroup = %tree.path.display(), "the pods of this node are here");
        } else {
            tracing::warn!("the cgroup of this node's pods is gone");
        }
        self.tree = found;
    }

    /// Brings map and table to what cluster and tree say now.
    pub fn settle(&mut self) {
        let Some(kernel) = self.agent.kernel() else { return };
        let known = self.feed.borrow_and_update().clone();
        let folders = self.tree.as_ref().map(Kubepods::pods).unwrap_or_default();
        let before = kernel.captured().ids().clone();
        let by_uid: HashMap<&str, _> = (known.iter())
            .flat_map(|known| known.pods.iter())
            .map(|pod| (pod.cgroup_uid(), pod))
            .collect();

        let mut captured = Vec::new();
        let mut wanted = HashSet::new();
        for folder in folders {
            let pod = by_uid.get(folder.uid.as_str()).copied();
            let verdict = match (pod, &known) {
                (Some(pod), Some(known)) => {
                    let namespace = known.captured_namespaces.contains(&pod.namespace);
                    node::is_captured(pod, namespace, self.own.as_deref())
                }
                // Nobody has told us of it yet, or it was deleted and still
                // runs: it stays as it is.
                _ if before.contains(&folder.id) => Ok(()),
                _ => Err(NotCaptured::Unlabelled),
            };
            match verdict {
                Ok(()) => {
                    wanted.insert(folder.id);
                    captured.push(CapturedPod { folder, pod: pod.cloned() });
                }
                Err(why) if before.contains(&folder.id) => {
                    tracing::info!(pod = pod.map(std::string::ToString::to_string), %why, "a pod is let go");
                }
                Err(_) => {}
            }
        }
        // A tree that can't be seen now may come back.
        if self.tree.is_some() {
            for &gone in before.difference(&wanted) {
                kernel.captured().release(gone);
            }
        }
        let table = PodTable::new(self.tree.clone(), known, self.own.clone(), captured);
        let generation = self.agent.pods.publish(table);
        self.capture(&before, generation);
    }

    /// Puts those into the map that aren't in there, as soon as they may be.
    fn capture(&mut self, before: &HashSet<u64>, generation: u64) {
        let Some(kernel) = self.agent.kernel() else { return };
        let table = self.agent.pods.table();
        let scanned = *self.agent.pods.watch_scanned().borrow();
        self.waiting.retain(|id, _| table.captured.iter().any(|pod| pod.folder.id == *id));
        let mut refused = None;
        for pod in table.captured.iter().filter(|pod| !before.contains(&pod.folder.id)) {
            let id = pod.folder.id;
            if pod.folder.is_populated() {
                let &mut (since, awaited) =
                    self.waiting.entry(id).or_insert((Instant::now(), generation));
                if scanned < awaited && since.elapsed() < LISTENERS {
                    continue;
                }
            }
            self.waiting.remove(&id);
            match kernel.captured().capture(id) {
                Ok(_) => {
                    let of = pod.pod.as_ref().map(std::string::ToString::to_string);
                    tracing::info!(pod = of, cgroup = id, "a pod is captured");
                }
                Err(error) => refused = Some(format!("{error:#}")),
            }
        }
        if refused.is_some() && refused != self.refused {
            tracing::error!(error = refused, "pods can't be captured");
        }
        self.agent.pods.set_refused(refused.clone());
        self.refused = refused;
    }
}
