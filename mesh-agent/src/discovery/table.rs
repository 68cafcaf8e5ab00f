//! All sources of all services: starts, keeps and stops them as the
//! configuration changes.

use std::{
    borrow::Borrow,
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Memory, SourceStatus,
    dns::DnsLookup,
    http::HttpLookup,
    memory::{self, Remembered},
    sockets::Sockets,
    task::{self, Published},
};
use crate::{
    model::{Discovered, Instance, ServiceName, ServiceSpec, Source},
    net::SocketOptions,
};

/// The sources that are asked, and what stands of them.
#[derive(Debug)]
pub struct Discovery {
    sockets: Sockets,
    services: Mutex<Services>,
    /// From an earlier run, until the first configuration is in force.
    remembered: Mutex<HashMap<memory::Key, Remembered>>,
    changed: Arc<Notify>,
}

/// In the order of the file; sources at their place in the service. Nothing
/// where a cluster is watched, which is not for us.
type Services = Vec<(ServiceName, Vec<Option<Arc<Running>>>)>;

/// A source that is being asked. Ends when the last one lets go of it.
#[derive(Debug)]
struct Running {
    service: ServiceName,
    source: Source,
    published: Arc<Published>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The sources of a configuration that isn't in force yet. Those that are new
/// are being asked already; dropping this stops them.
#[derive(Debug)]
pub struct Prepared {
    services: Services,
    /// Those that aren't in force: service, place, and whether nothing is
    /// known of them.
    fresh: Vec<(usize, usize, bool)>,
}

impl Discovery {
    /// `memory` is what an earlier run found.
    pub fn new(options: SocketOptions, memory: Memory) -> io::Result<Self> {
        Ok(Self {
            sockets: Sockets::new(options)?,
            services: Mutex::default(),
            remembered: Mutex::new(memory.into_map()),
            changed: Arc::default(),
        })
    }

    /// What stands in the kernel of a service, where the memory has nothing of
    /// one of its sources: until that one answers, what serves goes on serving.
    pub fn suppose(
        &self,
        specs: &[impl Borrow<ServiceSpec>],
        standing: impl Fn(&ServiceSpec) -> Vec<Instance>,
    ) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        for spec in specs.iter().map(Borrow::borrow) {
            let keys = || spec.sources.iter().map(|source| memory::Key::of(&spec.name, source));
            // Whose they are isn't known where several know nothing: all of
            // them stay until the first one has answered.
            let Some(unknown) = keys().find(|key| !remembered.contains_key(key)) else { continue };
            let known = keys().filter_map(|key| remembered.get(&key));
            let others =
                spec.static_instances.iter().chain(known.flat_map(|known| &*known.instances));
            let mut instances = standing(spec);
            instances.retain(|one| {
                !others.clone().any(|other| (other.address, other.port) == (one.address, one.port))
            });
            if instances.is_empty() {
                continue;
            }
            tracing::warn!(
                service = %spec.name,
                instances = instances.len(),
                "nothing is remembered of a source: what the kernel has stays until it answers"
            );
            remembered.insert(unknown, Remembered { instances: instances.into(), answered: None });
        }
    }

    /// Begins to ask the sources of `specs` that aren't asked yet. One that
    /// only differs in how it is asked begins with what stands of the old one.
    pub fn prepare(&self, specs: &[impl Borrow<ServiceSpec>]) -> Prepared {
        let running = self.services();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Vec::new();
        let places: HashMap<_, _> = running.iter().map(|(name, sources)| (name, sources)).collect();
        let services = (specs.iter().map(Borrow::borrow).enumerate())
            .map(|(at, spec)| {
                let before = places.get(&spec.name).into_iter().flat_map(|sources| sources.iter());
                let mut before: Vec<_> = before.flatten().cloned().collect();
                let sources = (spec.sources.iter().enumerate())
                    .map(|(place, source)| {
                        let same = before.iter().position(|other| other.source == *source);
                        if let Some(same) = same {
                            return Some(before.swap_remove(same));
                        }
                        let key = memory::Key::of(&spec.name, source);
                        let known = (before.iter())
                            .find(|other| memory::Key::of(&spec.name, &other.source) == key)
                            .and_then(|other| Remembered::of(&other.published.report()))
                            .or_else(|| remembered.remove(&key));
                        let unknown = known.as_ref().is_none_or(|known| known.answered.is_none());
                        let started = self.start(&spec.name, source, known)?;
                        fresh.push((at, place, unknown));
                        Some(started)
                    })
                    .collect();
                (spec.name.clone(), sources)
            })
            .collect();
        Prepared { services, fresh }
    }

    /// Puts prepared sources into force; what isn't among them ends.
    pub fn commit(&self, prepared: Prepared) {
        *self.services() = prepared.services;
        // What it still has belongs to services that are gone.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // What changed meanwhile has a place now.
        self.changed.notify_one();
    }

    /// Returns once sets have changed since [`Self::changes`] was called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The sets that changed since this was called last.
    pub fn changes(&self) -> Vec<Discovered> {
        let services = self.services();
        let all = services.iter().flat_map(|(_, sources)| sources.iter().enumerate());
        all.filter_map(|(place, running)| running.as_ref()?.take_change(place)).collect()
    }

    /// Has [`Self::changes`] name these again.
    pub fn put_back<'a>(&self, changes: impl Iterator<Item = &'a Discovered>) {
        let services = self.services();
        for change in changes {
            let sources = services.iter().find(|(name, _)| *name == change.service);
            let running = sources.and_then(|(_, sources)| sources.get(change.source)?.as_ref());
            if let Some(running) = running {
                running.published.report().taken = false;
            }
        }
    }

    /// How each source is, in the order of the file.
    pub fn status(&self) -> Vec<SourceStatus> {
        let services = self.services();
        let all = services.iter().flat_map(|(_, sources)| sources.iter().flatten());
        all.map(|running| running.status()).collect()
    }

    /// What stands, to be known to the next run.
    pub fn memory(&self) -> Memory {
        let services = self.services();
        let all = services.iter().flat_map(|(_, sources)| sources.iter().flatten());
        Memory::of(all.map(|running| {
            (memory::Key::of(&running.service, &running.source), running.published.report().clone())
        }))
    }

    /// Stops asking, everywhere; returns when all tasks have ended.
    pub async fn stop(&self) {
        let services = std::mem::take(&mut *self.services());
        let all: Vec<_> =
            services.into_iter().flat_map(|(_, sources)| sources.into_iter().flatten()).collect();
        for running in &all {
            running.stop.cancel();
        }
        for running in all {
            let task = running.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // Nobody aborts it, and its panics are caught.
                let _ = task.await;
            }
        }
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where there is nothing to ask.
    fn start(
        &self,
        service: &ServiceName,
        source: &Source,
        known: Option<Remembered>,
    ) -> Option<Arc<Running>> {
        let (set, answered) =
            known.map_or_else(Default::default, |known| (known.instances, known.answered));
        let published = Arc::new(Published::new(set, answered, Arc::clone(&self.changed)));
        let stop = CancellationToken::new();
        let name = format!("{service}: {} {}", source.kind(), source.target());
        let (sockets, shared, token) = (self.sockets.clone(), Arc::clone(&published), stop.clone());
        let task = match source.clone() {
            Source::Kubernetes(_) => return None,
            Source::Dns(dns) => {
                let empty_after = dns.empty_after;
                let make = move || DnsLookup::new(dns.clone(), sockets.clone());
                tokio::spawn(task::run(name, make, empty_after, shared, token))
            }
            Source::Http(http) => {
                let empty_after = http.empty_after;
                let make = move || HttpLookup::new(http.clone(), sockets.clone());
                tokio::spawn(task::run(name, make, empty_after, shared, token))
            }
        };
        Some(Arc::new(Running {
            service: service.clone(),
            source: source.clone(),
            published,
            stop,
            task: Mutex::new(Some(task)),
        }))
    }
}

impl Prepared {
    /// Waits until every new source of which nothing is known has been asked
    /// once, but no longer than `deadline`.
    pub async fn first_outcomes(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        for &(service, place, unknown) in &self.fresh {
            let running = &self.services[service].1[place];
            let Some(running) = running.as_ref().filter(|_| unknown) else { continue };
            if timeout_at(end, running.published.first_outcome()).await.is_err() {
                return;
            }
        }
    }

    /// What the new sources have found.
    pub fn found(&self) -> Vec<Discovered> {
        (self.fresh.iter())
            .filter_map(|&(service, place, _)| {
                self.services[service].1[place].as_ref()?.take_change(place)
            })
            .collect()
    }
}

impl Running {
    fn take_change(&self, place: usize) -> Option<Discovered> {
        let mut report = self.published.report();
        (!std::mem::replace(&mut report.taken, true)).then(|| Discovered {
            service: self.service.clone(),
            source: place,
            instances: Arc::clone(&report.set),
        })
    }

    fn status(&self) -> SourceStatus {
        let report = self.published.report().clone();
        SourceStatus {
            service: self.service.clone(),
            kind: self.source.kind(),
            target: self.source.target().to_owned(),
            state: report.state,
            instances: report.set.len(),
            answered: report.answered,
            last_error: report.last_error,
            next_try: report.next_try,
            answers: report.answers,
            errors: report.errors,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
