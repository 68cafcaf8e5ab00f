//! Which pods the hooks capture, where they are attached above all pods.
//!
//! The map outlives the agent: what was captured stays captured, and a pod that
//! an agent before left in it is looked at when the cluster has been heard.

use std::collections::HashSet;

use anyhow::{Context as _, anyhow};
use aya::maps::{HashMap, MapData};
use mesh_common::map;

use super::{object::Object, tables::Fill};

pub struct CapturedPods {
    map: HashMap<MapData, u64, u32>,
    /// Ids of cgroups that stand in the map.
    ids: HashSet<u64>,
}

impl CapturedPods {
    /// With what an earlier agent left.
    pub fn open(object: &mut Object) -> anyhow::Result<Self> {
        let name = map::CAPTURED;
        let map =
            object.ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))?;
        let map: HashMap<_, u64, u32> = map.try_into().context(name)?;
        let ids = map.keys().flatten().collect();
        Ok(Self { map, ids })
    }

    /// The ids of all captured pods' cgroups.
    pub fn ids(&self) -> &HashSet<u64> {
        &self.ids
    }

    pub fn fill(&self) -> Fill {
        let capacity = map::capacity::CAPTURED;
        Fill { map: map::CAPTURED, used: self.ids.len(), capacity }
    }

    /// Sockets of this pod are captured from now on; whether they weren't.
    pub fn capture(&mut self, cgroup: u64) -> anyhow::Result<bool> {
        if self.ids.contains(&cgroup) {
            return Ok(false);
        }
        self.map.insert(cgroup, 1, 0).with_context(|| {
            format!(
                "map {} ({} of {} pods)",
                map::CAPTURED,
                self.ids.len(),
                map::capacity::CAPTURED
            )
        })?;
        Ok(self.ids.insert(cgroup))
    }

    /// Its sockets are left alone from now on; whether they weren't.
    pub fn release(&mut self, cgroup: u64) -> bool {
        // One that is gone already is as good.
        let _ = self.map.remove(&cgroup);
        self.ids.remove(&cgroup)
    }
}
