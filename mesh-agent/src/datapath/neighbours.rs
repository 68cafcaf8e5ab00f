//! Addresses of the captured pods of this node: what leads from one of them to
//! another never leaves the node, and the hooks treat it so.
//!
//! The map outlives the agent; what an agent before left in it is compared with
//! the first look at the namespaces.

use std::{
    collections::HashMap as StdHashMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, anyhow};
use aya::maps::{HashMap, MapData};
use mesh_common::{address::Address, map};

use super::{object::Object, tables::Fill};

pub struct Neighbours {
    map: HashMap<MapData, Address, u64>,
    /// What stands in the map.
    known: StdHashMap<Address, u64>,
}

impl Neighbours {
    /// With what an earlier agent left.
    pub fn open(object: &mut Object) -> anyhow::Result<Self> {
        let name = map::NEIGHBOURS;
        let map =
            object.ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))?;
        let map: HashMap<_, Address, u64> = map.try_into().context(name)?;
        let known = map.iter().flatten().collect();
        Ok(Self { map, known })
    }

    pub fn fill(&self) -> Fill {
        let capacity = map::capacity::NEIGHBOURS;
        Fill { map: map::NEIGHBOURS, used: self.known.len(), capacity }
    }

    /// These are all that there are now, each with the cookie of its namespace.
    pub fn follow(
        &mut self,
        addresses: impl IntoIterator<Item = (IpAddr, u64)>,
    ) -> anyhow::Result<()> {
        let mut wanted: StdHashMap<Address, u64> = StdHashMap::new();
        for (address, netns) in addresses {
            let owner = wanted.entry(Address::from(SocketAddr::new(address, 0))).or_insert(netns);
            if *owner != netns {
                // Nobody can tell whose it is.
                *owner = 0;
            }
        }
        for (gone, _) in self.known.extract_if(|known, _| !wanted.contains_key(known)) {
            // One that is gone already is as good.
            let _ = self.map.remove(&gone);
        }
        for (address, owner) in wanted {
            if self.known.get(&address) != Some(&owner) {
                self.map.insert(address, owner, 0).with_context(|| {
                    format!("map {} ({} addresses)", map::NEIGHBOURS, self.known.len())
                })?;
                self.known.insert(address, owner);
            }
        }
        Ok(())
    }
}
