//! What the maps hold: the state that a plan starts from and ends in.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{
    address::Address,
    frontend::{Frontend, FrontendKey},
    policy::Policy,
};

use super::row::Row;

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

    pub fn slot_count(&self) -> usize {
        self.slots.values().map(Row::entry_count).sum()
    }

    pub fn chunk_count(&self) -> usize {
        self.slots.values().map(|row| row.chunks as usize).sum()
    }
}
