//! Brings what the cluster says into force: its services by the way of a
//! reload, its sets of instances by the way of those that other sources find.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{agent::Agent, compose::compose, discovery};
use crate::{
    kubernetes::{Changes, Cluster, Key, Memory, policy::LeftOut},
    model::{Discovered, KubernetesSource, ServiceName, Settings, Source},
    registry::Registry,
};

/// How long a start waits for the cluster's first lists, of which nothing is
/// known from an earlier run.
const FIRST_LISTS: Duration = Duration::from_secs(5);
/// A rollout changes many things at once: they are taken in together. Longer
/// where writing the maps takes long, up to [`SLOWEST`].
const SETTLE: Duration = Duration::from_millis(5);
const SLOWEST: Duration = Duration::from_millis(50);
/// What the kernel's maps refused is tried again: room may have been made.
const RETRY: Duration = Duration::from_secs(10);
/// What changed is kept for the next run after at most this long; the first time
/// at once, as nothing is kept yet.
const SAVE: Duration = Duration::from_secs(5);

/// The cluster, and what of it isn't in force.
#[derive(Debug)]
pub(super) struct Kubernetes {
    pub cluster: Arc<Cluster>,
    problems: Mutex<Problems>,
}

/// In words.
#[derive(Debug, Default)]
struct Problems {
    /// Services that are left out, or all of them.
    services: Vec<String>,
    /// By service and source: why nothing is behind it.
    sources: BTreeMap<(ServiceName, usize), String>,
    /// Sets that the kernel's maps don't take.
    refused: Vec<String>,
}

/// The configuration that the file and the cluster make together.
pub(super) struct Composed {
    pub settings: Settings,
    left_out: LeftOut,
}

impl Kubernetes {
    /// Begins to watch the cluster, where there is one; returns once it has
    /// said what it holds, or that takes too long.
    pub async fn start(
        settings: &Settings,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        if !settings.kubernetes.enabled {
            return Ok(None);
        }
        let memory = Memory::load(&memory(&settings.admin.socket));
        let cluster = Cluster::new(&settings.kubernetes, memory).await;
        let cluster = Arc::new(cluster.context("reaching the Kubernetes cluster")?);
        cluster.start(tasks, stop);
        cluster.first_lists(FIRST_LISTS).await;
        for watch in cluster.status() {
            let (resource, state, objects) = (watch.resource, watch.state, watch.objects);
            let error = watch.last_error.map(|(_, error)| error);
            tracing::info!(resource, ?state, objects, error, "watching the cluster");
        }
        Ok(Some(Self { cluster, problems: Mutex::default() }))
    }

    /// What the file says, with the cluster's services and this node's place.
    pub fn compose(&self, file: &Settings) -> Composed {
        let automatic = self.cluster.services(&file.kubernetes);
        let (services, left_out) = compose(&file.services, automatic);
        let locality = self.cluster.locality(&file.locality);
        Composed { settings: Settings { services, locality, ..file.clone() }, left_out }
    }

    /// What is behind the services, of `only` these Services or of all.
    pub fn found(&self, settings: &Settings, only: Option<&HashSet<Key>>) -> Vec<Discovered> {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if only.is_none() {
            problems.sources.clear();
        }
        let mut found = Vec::new();
        for (service, source, wanted) in sources(settings) {
            let key =
                Key { namespace: Arc::clone(&wanted.namespace), name: Arc::clone(&wanted.service) };
            if only.is_some_and(|only| !only.contains(&key)) {
                continue;
            }
            let place = (service.clone(), source);
            let instances = match self.cluster.instances(wanted, &settings.locality.cloud) {
                Ok(instances) => {
                    problems.sources.remove(&place);
                    instances
                }
                Err(absent) => {
                    let target = &wanted.shown;
                    let text = format!("{service} has nothing of {target}: {}", absent.why);
                    problems.sources.insert(place, text);
                    if !absent.known {
                        continue;
                    }
                    Arc::default()
                }
            };
            found.push(Discovered { service: service.clone(), source, instances });
        }
        found
    }

    /// The composed configuration is in force.
    pub fn note(&self, composed: Composed) {
        let words = composed
            .left_out
            .iter()
            .map(|(service, why)| format!("the cluster's service {service} is left out: {why}"));
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).services = words.collect();
        self.cluster.applied(Ok(composed.left_out));
    }

    /// What isn't in force, in words.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let Problems { services, sources, refused } = &*problems;
        services.iter().chain(sources.values()).chain(refused).cloned().collect()
    }
}

/// The sources that the cluster answers, each with its service and place.
pub(super) fn sources(
    settings: &Settings,
) -> impl Iterator<Item = (&ServiceName, usize, &KubernetesSource)> {
    settings.services.iter().flat_map(|service| {
        service.sources.iter().enumerate().filter_map(move |(place, source)| match source {
            Source::Kubernetes(source) => Some((&service.name, place, source)),
            Source::Dns(_) | Source::Http(_) => None,
        })
    })
}

/// The file that outlives the agent, as the kernel's maps do.
pub(super) fn memory(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".cluster");
    path.into()
}

/// Follows the cluster.
pub(super) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let Some(kubernetes) = agent.kubernetes() else { return };
    let cluster = &kubernetes.cluster;
    let mut pending = Changes::default();
    let (mut settle, mut save_at, mut retry_at) = (SETTLE, None, None);
    let mut kept_nothing = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = cluster.changed() => sleep(settle).await,
            () = discovery::at(retry_at) => {}
            () = discovery::at(save_at) => {
                save_at = None;
                save(&agent).await;
                continue;
            }
        }
        let changes = cluster.changes();
        pending.services |= changes.services;
        pending.instances.extend(changes.instances);
        let started = Instant::now();
        pending = follow(&agent, kubernetes, pending).await;
        settle = started.elapsed().saturating_mul(2).clamp(SETTLE, SLOWEST);
        let refused = pending != Changes::default();
        retry_at = refused.then(|| tokio::time::Instant::now() + RETRY);
        if kept_nothing && cluster.is_complete() {
            kept_nothing = false;
            save_at = Some(tokio::time::Instant::now());
        }
        save_at = save_at.or_else(|| Some(tokio::time::Instant::now() + SAVE));
    }
    save(&agent).await;
}

/// Puts changes into force; returns those that are refused.
async fn follow(agent: &Agent, kubernetes: &Kubernetes, mut changes: Changes) -> Changes {
    if changes.services {
        match recompose(agent, kubernetes).await {
            Ok(()) => changes.services = false,
            Err(error) => {
                tracing::error!(error, "the cluster's services can't be put into force");
                kubernetes.cluster.applied(Err(error.clone()));
                let text = format!(
                    "the cluster's services are not in force as they are now, those before are: \
                     {error}"
                );
                kubernetes.problems.lock().unwrap_or_else(PoisonError::into_inner).services =
                    vec![text];
            }
        }
    }
    if !changes.instances.is_empty() {
        // Held throughout: a reload may give the sources other places.
        let mut registry = agent.registry.lock().await;
        changes.instances = take_in(agent, kubernetes, &mut registry, &changes.instances);
    }
    changes
}

/// The services changed: the same way as a reload.
async fn recompose(agent: &Agent, kubernetes: &Kubernetes) -> Result<(), String> {
    let _alone = agent.reloading.lock().await;
    let old = agent.settings();
    let composed = kubernetes.compose(&agent.file());
    if composed.settings != *old {
        // Nobody waits for what an ExternalName's servers say: others change too.
        let new = composed.settings.clone();
        let applied = agent.put_into_force(&old, new, Duration::ZERO).await;
        applied.map_err(|error| error.to_string())?;
        let (services, generation) = (composed.settings.services.len(), agent.snapshots.load());
        tracing::info!(services, generation = generation.generation, "the cluster's services");
    }
    kubernetes.note(composed);
    Ok(())
}

/// The instances of these Services changed. Returns those of which the
/// kernel's maps refuse the new ones.
fn take_in(
    agent: &Agent,
    kubernetes: &Kubernetes,
    registry: &mut Registry,
    keys: &HashSet<Key>,
) -> HashSet<Key> {
    let settings = agent.settings();
    let found = kubernetes.found(&settings, Some(keys));
    let refused = match agent.kernel() {
        None => {
            registry.discover(found);
            Vec::new()
        }
        Some(kernel) => discovery::put_into_force(agent, kernel, registry, found),
    };
    let words = refused.iter().map(|(change, error)| discovery::refusal(agent, change, error));
    let words = words.collect();
    kubernetes.problems.lock().unwrap_or_else(PoisonError::into_inner).refused = words;
    let is_refused = |service: &ServiceName, place: usize| {
        refused.iter().any(|(change, _)| change.service == *service && change.source == place)
    };
    let again = sources(&settings).filter(|(service, place, _)| is_refused(service, *place));
    again
        .map(|(_, _, source)| Key {
            namespace: Arc::clone(&source.namespace),
            name: Arc::clone(&source.service),
        })
        .collect()
}

async fn save(agent: &Arc<Agent>) {
    let path = memory(&agent.settings().admin.socket);
    let shown = path.display().to_string();
    let agent = Arc::clone(agent);
    let saved = tokio::task::spawn_blocking(move || match agent.kubernetes() {
        Some(kubernetes) => kubernetes.cluster.save(&path),
        None => Ok(()),
    });
    if let Err(error) = saved.await.unwrap_or_else(|error| Err(error.into())) {
        tracing::warn!(
            path = shown,
            %error,
            "can't keep what the cluster said: the next start waits for the API server"
        );
    }
}
