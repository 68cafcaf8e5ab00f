//! Addresses of the captured pods of this node: what leads from one of them to
//! another never leaves the node, and the hooks treat it so.
//!
//! The map outlives the agent; what an agent before left in it is compared with
//! the first look at the namespaces.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, anyhow};
use aya::maps::{HashMap, MapData};
use mesh_common::{address::Address, map};

use super::{object::Object, tables::Fill};

pub struct Neighbours {
    map: HashMap<MapData, Address, u32>,
    /// What stands in the map.
    known: HashSet<Address>,
}

impl Neighbours {
    /// With what an earlier agent left.
    pub fn open(object: &mut Object) -> anyhow::Result<Self> {
        let name = map::NEIGHBOURS;
        let map =
            object.ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))?;
        let map: HashMap<_, Address, u32> = map.try_into().context(name)?;
        let known = map.keys().flatten().collect();
        Ok(Self { map, known })
    }

    pub fn fill(&self) -> Fill {
        let capacity = map::capacity::NEIGHBOURS;
        Fill { map: map::NEIGHBOURS, used: self.known.len(), capacity }
    }

    /// These are all that there are now.
    pub fn follow(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> anyhow::Result<()> {
        let wanted: HashSet<Address> = (addresses.into_iter())
            .map(|address| Address::from(SocketAddr::new(address, 0)))
            .collect();
        for gone in self.known.extract_if(|known| !wanted.contains(known)) {
            // One that is gone already is as good.
            let _ = self.map.remove(&gone);
        }
        for address in wanted {
            if !self.known.contains(&address) {
                self.map.insert(address, 1, 0).with_context(|| {
                    format!("map {} ({} addresses)", map::NEIGHBOURS, self.known.len())
                })?;
                self.known.insert(address);
            }
        }
        Ok(())
    }
}
