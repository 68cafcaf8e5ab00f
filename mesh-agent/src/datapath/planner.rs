//! Plans only what a new snapshot changes: what of the maps belongs to which
//! service port is kept, so that a change costs what it changes, however many
//! services there are.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use mesh_common::{
    backend::Backend,
    frontend::{algorithm, path},
    policy::flag,
};

use super::{
    contents::{Contents, Counts},
    newcomers::Known,
    plan::{self, Held, Plan, PlanError},
};
use crate::registry::{Difference, PortKey, Service, ServicePort, Snapshot};

/// What stands in the maps, and for whom.
#[derive(Debug, Default)]
pub struct Planner {
    contents: Contents,
    counts: Counts,
    ports: HashMap<PortKey, Held>,
    /// Of each service port's number.
    keys: HashMap<u32, PortKey>,
    /// Those that are balanced, or limited, by how fast their backends answer.
    timed: usize,
    /// That stands in the maps; `None` where nobody knows whose their contents
    /// are: what an earlier agent left, or a change that failed halfway.
    snapshot: Option<Arc<Snapshot>>,
}

/// A plan, and what it takes the place of.
#[derive(Debug)]
pub struct Change {
    pub(super) plan: Plan,
    old: Contents,
    gone: Vec<PortKey>,
    /// What the snapshot says of the ports that change.
    ports: Vec<Arc<ServicePort>>,
    snapshot: Arc<Snapshot>,
}

impl Change {
    pub fn operations(&self) -> usize {
        self.plan.operations.len()
    }

    /// What is known before the change is carried out.
    pub(super) fn known(&self, now: u64) -> Known<'_> {
        Known { backends: &self.old.backends, ports: &self.ports, held: &self.plan.ports, now }
    }
}

impl Planner {
    pub(super) fn new(contents: Contents) -> Self {
        Self { counts: contents.counts(), contents, ..Self::default() }
    }

    /// Whether this backend would be picked from if nothing were ejected; yes
    /// where nobody knows.
    pub fn would_serve(&self, service: u32, address: SocketAddr) -> bool {
        let (Some(snapshot), Some((name, number, transport))) =
            (&self.snapshot, self.keys.get(&service))
        else {
            return true;
        };
        let service = snapshot.service(name.as_str());
        let ports = service.iter().flat_map(|service| &service.ports);
        ports
            .filter(|one| one.port.port.get() == *number)
            .filter(|one| one.port.protocol.transport() == *transport)
            .flat_map(|port| &port.endpoints)
            .find(|endpoint| endpoint.address == address)
            .is_none_or(|endpoint| endpoint.would_serve())
    }

    /// The way to `snapshot`. Until it is `done` or `undone` the
    /// planner is without what changes.
    pub fn plan(&mut self, snapshot: &Arc<Snapshot>) -> Result<Change, PlanError> {
        let before = self.snapshot.clone();
        let difference = match &before {
            Some(before) => snapshot.since(before),
            None => Difference { left: Vec::new(), came: snapshot.services.iter().collect() },
        };
        let mut old = Contents { ids: self.contents.ids, ..Contents::default() };
        let mut gone = Vec::new();
        if before.is_none() {
            std::mem::swap(&mut old, &mut self.contents);
        }
        for port in difference.left.iter().flat_map(|service| &service.ports) {
            let key = port.key();
            if let Some(held) = self.ports.get(&key) {
                self.contents.take(held, &mut old);
                gone.push(key);
            }
        }
        let came = difference.came.iter().flat_map(|service: &&Arc<Service>| &service.ports);
        let ports: Vec<_> = came.map(Arc::clone).collect();
        let others = self.counts - old.counts();
        match plan::plan(ports.iter().map(Arc::as_ref), &old, others) {
            Ok(plan) => Ok(Change { plan, old, gone, ports, snapshot: Arc::clone(snapshot) }),
            Err(error) => {
                self.contents.add(old);
                Err(error)
            }
        }
    }

    /// The change stands in the maps.
    pub fn done(&mut self, change: Change) {
        let Change { plan, old, gone, snapshot, .. } = change;
        if self.snapshot.is_none() {
            self.ports.clear();
            self.keys.clear();
        }
        for key in gone {
            if let Some(held) = self.ports.remove(&key) {
                self.keys.remove(&held.service);
            }
        }
        for (key, held) in plan.ports {
            self.keys.insert(held.service, key.clone());
            self.ports.insert(key, held);
        }
        self.timed = self.timed - timed(&old) + timed(&plan.contents);
        self.counts = self.counts - old.counts() + plan.contents.counts();
        self.contents.add(plan.contents);
        self.snapshot = Some(snapshot);
    }

    /// The maps hold something else now: this, where it could be read.
    pub(super) fn undone(&mut self, change: Change, found: Option<Contents>) {
        self.contents.add(change.old);
        if let Some(contents) = found {
            self.timed = timed(&contents);
            self.counts = contents.counts();
            self.contents = contents;
        }
        self.snapshot = None;
    }

    /// Of the snapshot that stands in the maps.
    pub(super) fn generation(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.generation)
    }

    pub(super) const fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) const fn times_answers(&self) -> bool {
        self.timed > 0
    }

    /// The number by which the kernel knows a service port.
    pub(super) fn id(&self, port: &PortKey) -> Option<u32> {
        Some(self.ports.get(port)?.service)
    }

    /// The service port behind a number of the kernel's.
    pub(super) fn key(&self, id: u32) -> Option<&PortKey> {
        self.keys.get(&id)
    }

    /// The backends of a service port, by their ids.
    pub(super) fn backends<'a>(
        &'a self,
        id: u32,
        read: impl Fn(u32) -> Option<Backend> + 'a,
    ) -> impl Iterator<Item = (u32, Backend)> + 'a {
        let held = self.keys.get(&id).and_then(|key| self.ports.get(key));
        (held.into_iter().flat_map(|held| &held.backends))
            .filter_map(move |&backend| Some((backend, read(backend)?)))
    }
}

/// Counts what needs the programs that time answers.
fn timed(contents: &Contents) -> usize {
    let adaptive = contents.policies.values().filter(|policy| policy.flags & flag::ADAPTIVE != 0);
    let compared = contents.frontends.values().filter(|frontend| {
        frontend.path == path::KERNEL && frontend.algorithm == algorithm::LEAST_RESPONSE_TIME
    });
    adaptive.count() + compared.count()
}
