//! The maps themselves: carrying out plans, and reading counters.

mod bypass;
mod counters;
mod ejected;
mod standing;
mod tap;

use std::{
    collections::{HashMap as StdHashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use aya::{
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf},
    programs::ProgramFd,
};
use mesh_common::{
    address::Address,
    backend::{Backend, Slot, SlotKey, TierKey},
    connection::{Connection, Unseen},
    exclude::Exclude,
    frontend::{Frontend, FrontendKey},
    lookup::{Chunk, ChunkKey},
    map,
    policy::Policy,
    selective::Selective,
    service::Service,
    settings::{MAX_EXCLUDES, Settings as KernelSettings},
    socket::{Original, OriginalKey},
};

use super::{
    bypass::Bypass,
    contents::Contents,
    events::Events,
    heartbeat::Heartbeat,
    hooks::MEND,
    object::Object,
    originals::Originals,
    place::Place,
    plan::{Operation, PlanError},
    planner::Planner,
    row::Row,
    sys,
};
use crate::{model::Settings, registry::Snapshot};

pub use counters::{Fill, LiveConnection};

/// How long replaced slots stay readable: far longer than a program runs.
const GRACE: Duration = Duration::from_secs(1);
/// How often the hooks' numbers of ejected backends are looked at.
const COUNTED_EVERY: Duration = Duration::from_secs(5);

/// The balancing maps. One task owns them: they have a single writer.
pub struct Tables {
    settings: Array<MapData, KernelSettings>,
    /// Below which cgroup only captured pods are; as an earlier agent left it
    /// until somebody says otherwise.
    selective: Selective,
    /// Until when the hooks report connections, by the kernel's clock.
    tapped_until_ns: u64,
    bypass: Bypass,
    frontends: HashMap<MapData, FrontendKey, Frontend>,
    slots: HashMap<MapData, SlotKey, Slot>,
    backends: HashMap<MapData, u32, Backend>,
    services: HashMap<MapData, u32, Service>,
    policies: HashMap<MapData, u32, Policy>,
    lookups: HashMap<MapData, ChunkKey, Chunk>,
    connections: HashMap<MapData, u64, Connection>,
    reasons: PerCpuArray<MapData, u64>,
    planner: Planner,
    clients: HashMap<MapData, u64, Address>,
    tiers: HashMap<MapData, TierKey, u64>,
    /// Numbers of ejected backends that were wrong at the last look: found, right.
    miscounted: StdHashMap<TierKey, (u64, u64)>,
    counted: Instant,
    mend: ProgramFd,
    retired: VecDeque<(Instant, u32, u32, Row)>,
}

/// What a synchronisation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Of the snapshot that now stands in the kernel.
    pub generation: u64,
    pub operations: usize,
}

/// A map of the object, in the type that it has there.
macro_rules! take_map {
    ($object:expr, $name:expr, $type:ty) => {{
        let map = $object
            .ebpf
            .take_map($name)
            .ok_or_else(|| anyhow!("the object has no map {}", $name))?;
        <$type>::try_from(map).with_context(|| format!("map {}", $name))?
    }};
}

impl Tables {
    /// Takes the maps out of a loaded object, with what an earlier agent left
    /// in them.
    pub fn open(object: &mut Object) -> anyhow::Result<(Self, Originals, Heartbeat, Events)> {
        let mut tables = Self {
            settings: take_map!(object, map::SETTINGS, Array<_, _>),
            selective: Selective::default(),
            tapped_until_ns: 0,
            bypass: Bypass::open(object)?,
            frontends: take_map!(object, map::FRONTENDS, HashMap<_, _, _>),
            slots: take_map!(object, map::SLOTS, HashMap<_, _, _>),
            backends: take_map!(object, map::BACKENDS, HashMap<_, _, _>),
            services: take_map!(object, map::SERVICES, HashMap<_, _, _>),
            policies: take_map!(object, map::POLICIES, HashMap<_, _, _>),
            lookups: take_map!(object, map::LOOKUPS, HashMap<_, _, _>),
            connections: take_map!(object, map::CONNECTIONS, HashMap<_, _, _>),
            reasons: take_map!(object, map::REASONS, PerCpuArray<_, _>),
            clients: take_map!(object, map::CLIENTS, HashMap<_, _, _>),
            tiers: take_map!(object, map::TIERS, HashMap<_, _, _>),
            miscounted: StdHashMap::new(),
            counted: Instant::now(),
            mend: (object.ebpf.program(MEND))
                .ok_or_else(|| anyhow!("the object has no program {MEND}"))?
                .fd()?
                .try_clone()?,
            planner: Planner::default(),
            retired: VecDeque::new(),
        };
        tables.planner = Planner::new(tables.read()?);
        let before = tables.settings.get(&0, 0).context("reading the settings map")?;
        tables.selective = before.selective;
        tables.bypass.found(before.counts);
        for (_, policy) in tables.policies.iter().flatten() {
            tables.bypass.note(&policy);
        }
        let connections = match object.ebpf.take_map(map::ORIGINALS) {
            Some(Map::HashMap(data)) => data,
            other => return Err(anyhow!("{} is no hash map but {other:?}", map::ORIGINALS)),
        };
        let sockets = match object.ebpf.take_map(map::SOCKETS) {
            Some(Map::SkStorage(data)) => data,
            other => return Err(anyhow!("{} is no socket storage but {other:?}", map::SOCKETS)),
        };
        let resolvers = take_map!(object, map::RESOLVERS, HashMap<_, OriginalKey, Original>);
        let heartbeat = Heartbeat(take_map!(object, map::HEARTBEAT, Array<_, u64>));
        let events = Events::new(take_map!(object, map::EVENTS, RingBuf<_>))?;
        Ok((tables, Originals { connections, sockets, resolvers }, heartbeat, events))
    }

    /// Tells the hooks what the configuration says about them.
    pub fn configure(
        &mut self,
        settings: &Settings,
        log_level: log::LevelFilter,
    ) -> anyhow::Result<()> {
        let capture = &settings.capture;
        let mut value = KernelSettings {
            stale_after_ns: u64::try_from(capture.stale_after.as_nanos())?,
            mark: capture.mark,
            proxy_port_be: capture.proxy_port.to_be(),
            dns_port_be: if settings.dns.enabled { settings.dns.port.to_be() } else { 0 },
            log_level: log_level as u32,
            selective: self.selective,
            tapped_until_ns: self.tapped_until_ns,
            counts: self.bypass.counts(),
            ..KernelSettings::default()
        };
        if capture.exclude.len() > MAX_EXCLUDES {
            return Err(anyhow!(
                "capture.exclude has {} cgroups and the hooks hold {MAX_EXCLUDES}: exclude a common parent",
                capture.exclude.len()
            ));
        }
        for path in &capture.exclude {
            let Place { id, level } = Place::of(path).context("capture.exclude")?;
            value.exclude[value.excludes as usize] = Exclude { cgroup: id, level, zero: 0 };
            value.excludes += 1;
        }
        self.settings.set(0, value, 0).context("writing the settings map")
    }

    /// Tells the hooks below which cgroup only captured pods are; `None` for
    /// nowhere.
    pub fn select(&mut self, pods: Option<&Path>) -> anyhow::Result<()> {
        let selective = match pods {
            None => Selective::default(),
            Some(path) => {
                let Place { id, level } = Place::of(path)?;
                Selective { cgroup: id, level, zero: 0 }
            }
        };
        let mut value = self.settings.get(&0, 0).context("reading the settings map")?;
        value.selective = selective;
        self.settings.set(0, value, 0).context("writing the settings map")?;
        self.selective = selective;
        Ok(())
    }

    /// Puts a snapshot into the maps, or changes nothing.
    pub fn sync(&mut self, snapshot: &Arc<Snapshot>) -> Result<Sync, SyncError> {
        let mut change = self.planner.plan(snapshot)?;
        let operations = std::mem::take(&mut change.plan.operations);
        let begun = self.newcomers(&operations, &change);
        for operation in &operations {
            if let Err(error) = self.apply(operation, &begun) {
                // Somewhere on the way: the next plan starts from what is there.
                let found = self.read().ok();
                self.planner.undone(change, found);
                return Err(SyncError::Map { operation: format!("{operation:?}"), error });
            }
        }
        self.planner.done(change);
        if let Err(error) = self.start_bypass(&operations) {
            tracing::warn!(error = format!("{error:#}"), "`bypass` isn't on: all goes by TCP");
        }
        Ok(Sync { generation: snapshot.generation, operations: operations.len() })
    }

    fn apply(
        &mut self,
        operation: &Operation,
        begun: &StdHashMap<u32, Backend>,
    ) -> Result<(), aya::maps::MapError> {
        match *operation {
            Operation::AddService(id) => {
                let cursor = u64::from(rand::random::<u32>());
                self.services.insert(id, Service { cursor, ..Service::default() }, 0)
            }
            Operation::AddBackend { id, service, address } => {
                let first = Backend { address, service, ..Backend::default() };
                self.backends.insert(id, begun.get(&id).unwrap_or(&first), 0)
            }
            Operation::AddSlots { set, generation, ref row } => {
                for (index, slot) in row.entries() {
                    self.slots.insert(SlotKey { set, generation, index }, slot, 0)?;
                }
                if row.chunks > 0 {
                    for (chunk, slots) in (0..).zip(row.lookup()) {
                        self.lookups.insert(ChunkKey { set, generation, chunk }, slots, 0)?;
                    }
                }
                Ok(())
            }
            Operation::PutPolicy(id, ref policy) => self.policies.insert(id, **policy, 0),
            Operation::RemovePolicy(id) => ignore_missing(self.policies.remove(&id)),
            Operation::PutFrontend(key, frontend) => self.frontends.insert(key, frontend, 0),
            Operation::RemoveFrontend(key) => ignore_missing(self.frontends.remove(&key)),
            Operation::RemoveBackend(id) => ignore_missing(self.backends.remove(&id)),
            Operation::RemoveService(id) => ignore_missing(self.services.remove(&id)),
            Operation::RetireSlots { set, generation, ref row } => {
                self.retired.push_back((Instant::now() + GRACE, set, generation, row.clone()));
                Ok(())
            }
        }
    }

    /// Removes slots whose time has come. To be called now and then.
    pub fn reap(&mut self, now: Instant) {
        if now.saturating_duration_since(self.counted) >= COUNTED_EVERY {
            self.counted = now;
            if let Err(error) = self.count_ejected() {
                tracing::warn!(%error, "correcting the numbers of ejected backends failed");
            }
        }
        while self.retired.front().is_some_and(|&(due, ..)| due <= now) {
            let Some((_, set, generation, row)) = self.retired.pop_front() else { return };
            let slots = row.keys(set, generation).map(|key| self.slots.remove(&key));
            let mut removed: Vec<_> = slots.collect();
            removed.extend(
                (0..row.chunks)
                    .map(|chunk| self.lookups.remove(&ChunkKey { set, generation, chunk })),
            );
            for result in removed {
                if let Err(error) = ignore_missing(result) {
                    tracing::warn!(%error, set, generation, "removing a retired slot failed");
                }
            }
        }
    }

    /// Reads what the maps hold.
    fn read(&self) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        for entry in &self.frontends {
            let (key, frontend) = entry?;
            contents.frontends.insert(key, frontend);
        }
        let retired =
            |set, generation| self.retired.iter().any(|&(_, s, g, _)| (s, g) == (set, generation));
        for entry in &self.slots {
            let (SlotKey { set, generation, index }, slot) = entry?;
            if retired(set, generation) {
                continue;
            }
            contents.slots.entry((set, generation)).or_default().found(index, slot);
        }
        for key in self.lookups.keys() {
            let ChunkKey { set, generation, chunk } = key?;
            if retired(set, generation) {
                continue;
            }
            let row = contents.slots.entry((set, generation)).or_default();
            row.chunks = row.chunks.max(chunk + 1);
        }
        for entry in &self.policies {
            let (id, policy) = entry?;
            contents.policies.insert(id, policy);
        }
        for entry in &self.backends {
            let (id, backend) = entry?;
            contents.backends.insert(id, (backend.service, backend.address));
        }
        for id in self.services.keys() {
            contents.services.insert(id?);
        }
        let live = self.connections.iter().filter_map(|entry| Some(entry.ok()?.1.with.backend));
        contents.skip_used_ids(live);
        Ok(contents)
    }

    /// Takes connections off the counts that ended unseen; how many those were.
    pub fn forget(&mut self, gone: &[LiveConnection]) -> anyhow::Result<usize> {
        let mut count = 0;
        for LiveConnection { cookie, connection, .. } in gone {
            // Its hook may have come after all, and then it has counted.
            if self.connections.remove(cookie).is_err() {
                continue;
            }
            let mut packet = [0; size_of::<Unseen>()];
            packet[..4].copy_from_slice(&connection.with.backend.to_ne_bytes());
            packet[4..8].copy_from_slice(&connection.with.service.to_ne_bytes());
            packet[8..].copy_from_slice(&1u64.to_ne_bytes());
            sys::run(self.mend.as_fd(), &packet).context("running mesh_mend")?;
            self.bypass.forget(*cookie, connection);
            count += 1;
        }
        Ok(count)
    }

    /// Whether a service is balanced, or limited, by how fast its backends
    /// answer.
    pub fn times_answers(&self) -> bool {
        self.planner.times_answers()
    }

    /// What the sockets of a namespace are hashed by, where they aren't bound:
    /// its own address. `None` for a namespace that is gone.
    pub fn set_client(&mut self, netns: u64, address: Option<IpAddr>) {
        let result = match address {
            Some(address) => {
                let address = Address::from(SocketAddr::new(address, 0));
                self.clients.insert(netns, address, 0)
            }
            None => ignore_missing(self.clients.remove(&netns)),
        };
        if let Err(error) = result {
            tracing::warn!(netns, %error, "its clients are hashed by another value from now on");
        }
    }
}

/// Why a snapshot didn't get into the maps.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the kernel refused a map operation, {operation}: {error}")]
    Map { operation: String, error: aya::maps::MapError },
}

fn ignore_missing(result: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    match result {
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(aya::maps::MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}
