//! How many backends of a tier are ejected: the hooks count, and are corrected.

use std::collections::HashMap;

use mesh_common::backend::TierKey;

use super::Tables;

impl Tables {
    /// Corrects the numbers of ejected backends, which the hooks count: a
    /// backend that is removed, drained or found unhealthy while it is ejected
    /// takes nothing off.
    ///
    /// Looks only at services of which any backend was ever ejected: there may
    /// be a hundred thousand backends, and whoever wants a change waits for this.
    pub(super) fn count_ejected(&mut self) -> Result<(), aya::maps::MapError> {
        let mut wrong = HashMap::new();
        for (key, count) in self.tiers.iter().flatten() {
            let right = self.ejected(&key);
            if count != right {
                wrong.insert(key, (count, right));
            }
        }
        // The hooks may be about to correct it themselves.
        for (key, seen) in &wrong {
            if self.miscounted.get(key) == Some(seen) {
                self.tiers.insert(key, seen.1, 0)?;
            }
        }
        self.miscounted = wrong;
        Ok(())
    }

    /// The backends of a tier that are ejected and would be picked from else.
    fn ejected(&self, key: &TierKey) -> u64 {
        let backends = self.backends_of(key.service).into_iter();
        let ejected = backends.filter(|(_, backend)| {
            u32::from(backend.tier) == key.tier
                && backend.ejected_until_ns != 0
                && self.planner.would_serve(key.service, backend.address.to_socket_addr())
        });
        ejected.count() as u64
    }
}
