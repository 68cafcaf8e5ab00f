//! What an agent finds in the maps of a service: the instances behind it, as
//! far as the kernel knows them.

use std::{
    collections::{BTreeMap, HashMap as StdHashMap},
    net::SocketAddr,
    num::NonZeroU16,
    sync::Arc,
};

use mesh_common::{address::Address, backend::Backend, frontend::FrontendKey};

use super::Tables;
use crate::{
    datapath::{
        heartbeat::monotonic_ns,
        newcomers,
        plan::{Operation, protocol},
        planner::Change,
    },
    model::{Instance, Serves, ServiceSpec, Weight},
};

impl Tables {
    /// The instances that connections to this service's addresses go to, of
    /// both families. Labels and places the kernel doesn't know; an instance
    /// that gets nothing, it doesn't have.
    pub fn standing(&self, spec: &ServiceSpec) -> Vec<Instance> {
        let ports = spec.ports.iter().flat_map(|port| {
            (spec.addresses.iter())
                .map(move |&address| (port, SocketAddr::new(address, port.port.get())))
        });
        let mut found = BTreeMap::new();
        for (port, address) in ports {
            let key = FrontendKey::new(Address::from(address), protocol(port.protocol.transport()));
            let row = (self.planner.contents().frontends.get(&key)).and_then(|frontend| {
                self.planner.contents().slots.get(&(frontend.set, frontend.generation))
            });
            for slot in row.into_iter().flat_map(|row| &row.slots) {
                let at = slot.address.to_socket_addr();
                let own = NonZeroU16::new(at.port()).filter(|&number| number != port.port);
                let serves = Serves { port: port.port, transport: port.protocol.transport() };
                found.entry((at.ip(), own, port.port, serves.transport)).or_insert_with(|| {
                    Instance {
                        address: at.ip(),
                        port: own,
                        weight: Weight(slot.weight),
                        locality: Arc::default(),
                        priority: slot.tier,
                        labels: Arc::default(),
                        serves: Some(serves),
                    }
                });
            }
        }
        found.into_values().collect()
    }

    /// How those begin that a change adds to what stands.
    pub(super) fn newcomers(
        &self,
        operations: &[Operation],
        change: &Change,
    ) -> StdHashMap<u32, Backend> {
        let now = monotonic_ns().unwrap_or(0);
        newcomers::newcomers(operations, &change.known(now), |id| {
            Some(self.backends.get(&id, 0).ok()?.ewma)
        })
    }
}
