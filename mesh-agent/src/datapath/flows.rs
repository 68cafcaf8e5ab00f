//! What UDP sockets keep to: read, and forgotten, when an instance is removed.

use std::{collections::HashSet, net::SocketAddr};

use anyhow::{Context as _, anyhow};
use aya::maps::{HashMap, MapData};
use mesh_common::{
    address::Address,
    connection::{Flow, FlowKey, ReverseKey},
    map,
};

use super::object::Object;

/// The maps of UDP.
pub struct Flows {
    flows: HashMap<MapData, FlowKey, Flow>,
    reverse: HashMap<MapData, ReverseKey, Address>,
}

impl Flows {
    pub fn open(object: &mut Object) -> anyhow::Result<Self> {
        let mut take = |name| {
            object.ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
        };
        Ok(Self {
            flows: take(map::FLOWS)?.try_into().context(map::FLOWS)?,
            reverse: take(map::REVERSE)?.try_into().context(map::REVERSE)?,
        })
    }

    /// Cookies of the sockets that have dealt with this instance through one of
    /// these virtual addresses.
    pub fn sockets(&self, instance: SocketAddr, asked: &[SocketAddr]) -> HashSet<u64> {
        let instance = Address::from(instance);
        let asked: Vec<_> = asked.iter().copied().map(Address::from).collect();
        (self.reverse.iter().flatten())
            .filter(|(key, original)| key.from == instance && asked.contains(original))
            .map(|(key, _)| key.cookie)
            .collect()
    }

    /// Unconnected sockets choose anew with their next datagram. Returns how
    /// many kept to this instance.
    pub fn forget(&mut self, service: u32, instance: SocketAddr) -> usize {
        let instance = Address::from(instance);
        let keys: Vec<_> = (self.flows.iter().flatten())
            .filter(|(key, flow)| key.service == service && flow.address == instance)
            .map(|(key, _)| key)
            .collect();
        // One that is gone already is as good.
        keys.iter().filter(|key| self.flows.remove(key).is_ok()).count()
    }
}
