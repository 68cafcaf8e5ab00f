//! What two snapshots don't share. A service that didn't change is the very same
//! one in both, so that who follows the snapshots looks at the others only: with
//! ten thousand services that is what makes a change cheap.

use std::{collections::HashSet, sync::Arc};

use super::{Service, Snapshot};

/// Services that are in one of two snapshots only, as they are there.
#[derive(Debug, Default)]
pub struct Difference<'a> {
    pub left: Vec<&'a Arc<Service>>,
    pub came: Vec<&'a Arc<Service>>,
}

impl Snapshot {
    /// What became of `before`. Costs a comparison of addresses per service.
    pub fn since<'a>(&'a self, before: &'a Self) -> Difference<'a> {
        let (old, new) = (&before.services, &self.services);
        let differs = |place: &usize| !matches!((old.get(*place), new.get(*place)), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        let places: Vec<usize> = (0..old.len().max(new.len())).filter(differs).collect();
        let pick = |of: &'a [Arc<Service>]| -> Vec<&'a Arc<Service>> {
            places.iter().filter_map(|&place| of.get(place)).collect()
        };
        let (mut left, mut came) = (pick(old), pick(new));
        // Those that only stand in another place.
        let known: HashSet<_> = left.iter().map(|service| Arc::as_ptr(service)).collect();
        let moved: HashSet<_> = came
            .iter()
            .map(|service| Arc::as_ptr(service))
            .filter(|at| known.contains(at))
            .collect();
        if !moved.is_empty() {
            left.retain(|service| !moved.contains(&Arc::as_ptr(service)));
            came.retain(|service| !moved.contains(&Arc::as_ptr(service)));
        }
        Difference { left, came }
    }
}
