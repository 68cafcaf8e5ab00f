//! How many connections each backend may have open, where that follows its
//! response time: what `connect` looks at.

use std::collections::HashMap as StdHashMap;

use anyhow::{Context as _, anyhow};
use aya::maps::{HashMap, MapData};
use mesh_common::map;

use super::object::Object;

pub struct ConcurrencyLimits {
    map: HashMap<MapData, u32, u64>,
    /// What stands in the map.
    written: StdHashMap<u32, u64>,
}

impl ConcurrencyLimits {
    pub fn open(object: &mut Object) -> anyhow::Result<Self> {
        let name = map::CONCURRENCY;
        let map =
            object.ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))?;
        let map: HashMap<_, u32, u64> = map.try_into().context(name)?;
        let written = map.iter().flatten().collect();
        Ok(Self { map, written })
    }

    /// Puts these limits, by backend id, in the place of all others.
    pub fn write(&mut self, wanted: &StdHashMap<u32, u64>) -> anyhow::Result<()> {
        for (&id, &limit) in wanted {
            if self.written.get(&id) != Some(&limit) {
                self.map.insert(id, limit, 0).with_context(|| map::CONCURRENCY.to_owned())?;
                self.written.insert(id, limit);
            }
        }
        let gone: Vec<u32> =
            self.written.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        for id in gone {
            // One that is gone already is as good.
            let _ = self.map.remove(&id);
            self.written.remove(&id);
        }
        Ok(())
    }
}
