//! The cluster as a whole: its watches, and what they found.

use std::{
    collections::HashSet,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Change, ConnectError, Key, Memory, Namespace, Node, Pod, Progress, Resource, Selector, Service,
    Slice, WatchStatus, Watched,
    client::{self, Way},
    memory,
    pods::NodePods,
    policy::{self, LeftOut, Ruling, Verdict},
    store::{Dirty, Store},
    translate,
};
use crate::model::{
    Instance, Kubernetes, KubernetesServices, KubernetesSource, Locality, ServiceSpec,
};

/// Follows a cluster, and knows what stands of it.
pub struct Cluster {
    way: Way,
    /// This node's name; empty is unknown.
    node: Arc<str>,
    state: Mutex<State>,
    changed: Notify,
    /// `None` until all of it is known.
    pods: watch::Sender<Option<Arc<NodePods>>>,
    watches: Watches,
    pub(super) policies: policy::Watches,
    verdicts_changed: Notify,
    /// For how long the holder of the Lease may be silent.
    lease: Duration,
}

#[derive(Default)]
pub(super) struct State {
    store: Store,
    pub policies: policy::Policies,
    pub dirty: Dirty,
}

struct Watches {
    services: Arc<Progress>,
    slices: Arc<Progress>,
    namespaces: Arc<Progress>,
    nodes: Arc<Progress>,
    /// `None` where nobody said which node this is.
    pods: Option<Arc<Progress>>,
}

/// Why nothing is behind a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The cluster says so; else it hasn't said anything yet.
    pub known: bool,
    pub why: String,
}

/// What has changed since it was last asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// [`Cluster::services`] or [`Cluster::locality`].
    pub services: bool,
    /// [`Cluster::instances`] of these Services.
    pub instances: HashSet<Key>,
}

impl Cluster {
    /// Nothing is asked yet. `memory` is what an earlier run knew.
    pub async fn new(settings: &Kubernetes, memory: Memory) -> Result<Self, ConnectError> {
        let way = client::way(settings).await?;
        let ours = memory.cluster == way.url && memory.node == settings.node;
        let memory = if ours { memory } else { Memory::default() };
        let progress = |resource: Resource, known: Option<usize>| {
            Arc::new(Progress::new(resource.to_string(), known))
        };
        let is_pod_known = !settings.node.is_empty();
        let watches = Watches {
            services: progress(Service::RESOURCE, memory.services.as_ref().map(Vec::len)),
            slices: progress(Slice::RESOURCE, memory.slices.as_ref().map(Vec::len)),
            namespaces: progress(Namespace::RESOURCE, memory.namespaces.as_ref().map(Vec::len)),
            nodes: progress(Node::RESOURCE, memory.nodes.as_ref().map(Vec::len)),
            pods: is_pod_known.then(|| progress(Pod::RESOURCE, memory.pods.as_ref().map(Vec::len))),
        };
        let mut memory = memory;
        let mut state = State::default();
        let written = memory.written;
        let kept = memory.policies.take();
        let known = kept.is_some();
        state.policies = kept.unwrap_or_default().into();
        state.store = memory.into_store(&mut state.dirty);
        let policies = policy::Watches::new(&state.policies, known);
        let cluster = Self {
            way,
            node: settings.node.as_str().into(),
            state: Mutex::new(state),
            changed: Notify::new(),
            pods: watch::Sender::new(None),
            watches,
            policies,
            verdicts_changed: Notify::new(),
            lease: settings.lease,
        };
        cluster.watches().chain(cluster.policies.all()).for_each(|it| it.remembered(written));
        cluster.publish();
        Ok(cluster)
    }

    /// For what else is asked of the API server.
    pub fn client(&self) -> kube::Client {
        self.way.client.clone()
    }

    /// Begins to watch; the tasks end with `stop`.
    pub fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let known = |keys: &dyn Fn(&Store) -> HashSet<Key>| keys(&self.state().store);
        let services = known(&|store| store.services.keys().cloned().collect());
        let slices = known(&|store| store.all_slices().map(|slice| slice.key.clone()).collect());
        let namespaces = known(&|s| s.namespaces.values().map(|it| it.key.clone()).collect());
        let nodes = known(&|store| store.nodes.values().map(|node| node.key.clone()).collect());
        let all = Selector::default;
        let Watches { services: w1, slices: w2, namespaces: w3, nodes: w4, pods: w5 } =
            &self.watches;
        self.follow(tasks, all(), services, w1, stop, |state, change| {
            state.store.service(change, &mut state.dirty);
        });
        // What belongs to no Service is nobody's.
        let owned = Selector { labels: Some("kubernetes.io/service-name".into()), ..all() };
        self.follow(tasks, owned, slices, w2, stop, |state, change| {
            state.store.slice(change, &mut state.dirty);
        });
        self.follow(tasks, all(), namespaces, w3, stop, |state, change| {
            state.store.namespace(change, &mut state.dirty);
        });
        let node = Arc::clone(&self.node);
        self.follow(tasks, all(), nodes, w4, stop, move |state, change| {
            state.store.node(change, &node, &mut state.dirty);
        });
        if let Some(progress) = w5 {
            let pods = known(&|store| store.pods.keys().cloned().collect());
            let here = Selector { fields: Some(format!("spec.nodeName={}", self.node)), ..all() };
            self.follow(tasks, here, pods, progress, stop, |state, change| {
                state.store.pod(change, &mut state.dirty);
            });
        }
        policy::start(self, self.lease, tasks, stop);
    }

    pub(super) fn follow<K: Watched>(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        selector: Selector,
        known: HashSet<Key>,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
        take: impl Fn(&mut State, Change<K>) + Send + 'static,
    ) {
        let cluster = Arc::clone(self);
        let (listed, followed) = (Arc::clone(progress), Arc::clone(progress));
        let sink = move |change| {
            // Objects of a list that isn't complete yet wait for the rest: a
            // Service of which half the slices are known must not be served.
            let complete = listed.is_known();
            take(&mut cluster.state(), change);
            if complete {
                cluster.publish();
            }
        };
        let (client, stop) = (self.client(), stop.clone());
        tasks.spawn(super::watch(client, selector, known, followed, sink, stop));
    }

    /// Tells those who wait.
    fn publish(&self) {
        let mut state = self.state();
        let Watches { namespaces, pods, .. } = &self.watches;
        let known = namespaces.is_known() && pods.as_ref().is_some_and(|pods| pods.is_known());
        if known && std::mem::take(&mut state.dirty.pods) {
            self.pods.send_replace(Some(Arc::new(state.store.node_pods())));
        }
        if std::mem::take(&mut state.dirty.statuses) {
            self.verdicts_changed.notify_one();
        }
        if state.dirty.services || !state.dirty.instances.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Waits until every watch has listed its objects, or said why it can't,
    /// or knows them from an earlier run; no longer than `deadline`.
    pub async fn first_lists(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        for progress in self.watches().chain(self.policies.all()) {
            if !progress.is_known() && timeout_at(end, progress.first_outcome()).await.is_err() {
                return;
            }
        }
    }

    /// Returns once something has changed since [`Self::changes`] was called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn changes(&self) -> Changes {
        let mut state = self.state();
        Changes {
            services: std::mem::take(&mut state.dirty.services),
            instances: std::mem::take(&mut state.dirty.instances),
        }
    }

    /// This node's pods and the captured namespaces, now and from now on;
    /// `None` until both are known.
    pub fn pods(&self) -> watch::Receiver<Option<Arc<NodePods>>> {
        self.pods.subscribe()
    }

    /// The services of the mesh that nobody wrote down. None until all that
    /// they rest on has been seen: a service without its instances would be
    /// worse than one that the mesh leaves alone.
    pub fn services(&self, settings: &Kubernetes) -> Vec<ServiceSpec> {
        let Watches { services, slices, namespaces, .. } = &self.watches;
        let needs_namespaces = settings.services == KubernetesServices::Captured;
        let seen = services.is_known()
            && slices.is_known()
            && (!needs_namespaces || namespaces.is_known());
        if !seen || settings.services == KubernetesServices::None {
            return Vec::new();
        }
        let mut state = self.state();
        let State { store, policies, .. } = &mut *state;
        let captured = |namespace: &str| {
            let namespace = store.namespaces.get(namespace);
            !needs_namespaces || namespace.is_some_and(|namespace| namespace.captured)
        };
        let wanted = store.services.values().filter(|it| captured(&it.key.namespace));
        let mut specs: Vec<ServiceSpec> =
            wanted.filter_map(|service| translate::spec(service, settings)).collect();
        policies.attach(&mut specs, store.services.values(), settings);
        specs
    }

    /// What [`Self::services`] gave last is in force, or why it isn't.
    pub fn applied(&self, outcome: Result<LeftOut, String>) {
        self.state().policies.applied(outcome);
        self.verdicts_changed.notify_one();
    }

    pub(super) async fn verdicts_changed(&self) {
        self.verdicts_changed.notified().await;
    }

    /// What became of policies and routes, and whether that is in force.
    pub(super) fn verdicts(&self) -> Vec<(Verdict, Arc<policy::Object>, Ruling)> {
        self.state().policies.told()
    }

    /// This node's name; empty is unknown.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What is behind a Service, or why there is nothing. `cloud` is where the
    /// cluster is.
    pub fn instances(
        &self,
        source: &KubernetesSource,
        cloud: &str,
    ) -> Result<Arc<[Instance]>, Absent> {
        if !self.watches.services.is_known() || !self.watches.slices.is_known() {
            return Err(Absent { known: false, why: "the cluster hasn't said yet".to_owned() });
        }
        let absent = |why: String| Absent { known: true, why };
        let state = self.state();
        let store = &state.store;
        let key =
            Key { namespace: Arc::clone(&source.namespace), name: Arc::clone(&source.service) };
        let Some(service) = store.services.get(&key) else {
            return Err(absent("there is no such Service".to_owned()));
        };
        let of_node = |name: &str| {
            let node = store.nodes.get(name);
            node.map(|node| (Arc::clone(&node.region), Arc::clone(&node.zone))).unwrap_or_default()
        };
        let of_zone = |zone: &str| {
            let node = store.nodes.values().find(|node| *node.zone == *zone);
            node.map(|node| Arc::clone(&node.region)).unwrap_or_default()
        };
        let (_, zone) = of_node(&self.node);
        let (of_node, of_zone) = (&of_node, &of_zone);
        let place = translate::Place { node: &self.node, zone: &zone, cloud, of_node, of_zone };
        let slices: Vec<_> = store.slices_of(&key).collect();
        translate::instances(service, &slices, source.port.as_ref(), &place).map_err(absent)
    }

    /// Where this node is, as it says itself; `written` counts where it says
    /// anything.
    pub fn locality(&self, written: &Locality) -> Locality {
        let state = self.state();
        let node = state.store.nodes.get(&*self.node);
        let or = |written: &str, found: &str| match written {
            "" => found.to_owned(),
            written => written.to_owned(),
        };
        Locality {
            cloud: written.cloud.clone(),
            region: or(&written.region, node.map_or("", |node| &node.region)),
            zone: or(&written.zone, node.map_or("", |node| &node.zone)),
            node: or(&written.node, &self.node),
        }
    }

    pub fn status(&self) -> Vec<WatchStatus> {
        self.watches().chain(self.policies.all()).map(|progress| progress.status()).collect()
    }

    /// Whether all that services and pods rest on is known.
    pub fn is_complete(&self) -> bool {
        self.watches().all(|progress| progress.is_known())
    }

    /// Whether something is new to the next run.
    pub fn is_unsaved(&self) -> bool {
        self.state().dirty.unsaved
    }

    /// Keeps what stands for the next run.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !std::mem::take(&mut state.dirty.unsaved) {
            return Ok(());
        }
        let Watches { services, slices, namespaces, nodes, pods } = &self.watches;
        let known = memory::Known {
            services: services.is_known(),
            slices: slices.is_known(),
            namespaces: namespaces.is_known(),
            nodes: nodes.is_known(),
            pods: pods.as_ref().is_some_and(|pods| pods.is_known()),
        };
        let policies = state.policies.kept();
        let text = memory::text(&state.store, policies, &known, &self.way.url, &self.node)?;
        drop(state);
        memory::save(&text, path)
    }

    fn watches(&self) -> impl Iterator<Item = &Arc<Progress>> {
        let Watches { services, slices, namespaces, nodes, pods } = &self.watches;
        [services, slices, namespaces, nodes].into_iter().chain(pods)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("url", &self.way.url).finish_non_exhaustive()
    }
}
