//! What the maps hold: the state that a plan starts from and ends in.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops,
};

use mesh_common::{
    address::Address,
    frontend::{Frontend, FrontendKey},
    policy::Policy,
};

use super::{plan::Held, row::Row};

/// The balancing maps, without their counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// By set and generation. A row with a gap (an agent died while it wrote) is
    /// kept under its highest index, gaps filled with a default, so that it is
    /// found and removed.
    pub slots: BTreeMap<(u32, u32), Row>,
    /// Backend id → its service and address.
    pub backends: BTreeMap<u32, (u32, Address)>,
    pub services: BTreeSet<u32>,
    /// By service.
    pub policies: BTreeMap<u32, Policy>,
    pub ids: Ids,
}

/// The next unused numbers. They only go up, so that a late close of an old
/// connection is never counted for a new backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub service: u32,
    pub set: u32,
    pub backend: u32,
}

impl Ids {
    pub fn next_service(&mut self) -> u32 {
        next(&mut self.service)
    }

    pub fn next_set(&mut self) -> u32 {
        next(&mut self.set)
    }

    pub fn next_backend(&mut self) -> u32 {
        next(&mut self.backend)
    }
}

fn next(counter: &mut u32) -> u32 {
    let id = *counter;
    *counter += 1;
    id
}

impl Contents {
    /// Sets the counters past everything that is in use.
    pub fn skip_used_ids(&mut self, live_backends: impl Iterator<Item = u32>) {
        let after = |max: Option<u32>| max.map_or(0, |id| id.saturating_add(1));
        self.ids = Ids {
            service: after(self.services.last().copied()),
            set: after(self.slots.keys().map(|&(set, _)| set).max())
                .max(after(self.frontends.values().map(|frontend| frontend.set).max())),
            backend: after(self.backends.keys().copied().chain(live_backends).max()),
        };
    }

    /// Moves what belongs to a service port from here to `part`.
    pub fn take(&mut self, held: &Held, part: &mut Self) {
        for key in &held.frontends {
            part.frontends.extend(self.frontends.remove_entry(key));
        }
        for key in &held.slots {
            part.slots.extend(self.slots.remove_entry(key));
        }
        for key in &held.backends {
            part.backends.extend(self.backends.remove_entry(key));
        }
        part.services.extend(self.services.take(&held.service));
        part.policies.extend(self.policies.remove_entry(&held.service));
    }

    /// Adds a part; its numbers are the newer ones.
    pub fn add(&mut self, part: Self) {
        self.frontends.extend(part.frontends);
        self.slots.extend(part.slots);
        self.backends.extend(part.backends);
        self.services.extend(part.services);
        self.policies.extend(part.policies);
        self.ids = part.ids;
    }

    pub fn counts(&self) -> Counts {
        Counts {
            frontends: self.frontends.len(),
            slots: self.slots.values().map(Row::entry_count).sum(),
            chunks: self.slots.values().map(|row| row.chunks as usize).sum(),
            backends: self.backends.len(),
            services: self.services.len(),
        }
    }
}

/// How many entries of each map that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub frontends: usize,
    pub slots: usize,
    pub chunks: usize,
    pub backends: usize,
    pub services: usize,
}

impl ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            frontends: self.frontends + other.frontends,
            slots: self.slots + other.slots,
            chunks: self.chunks + other.chunks,
            backends: self.backends + other.backends,
            services: self.services + other.services,
        }
    }
}

impl ops::Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            frontends: self.frontends - other.frontends,
            slots: self.slots - other.slots,
            chunks: self.chunks - other.chunks,
            backends: self.backends - other.backends,
            services: self.services - other.services,
        }
    }
}
