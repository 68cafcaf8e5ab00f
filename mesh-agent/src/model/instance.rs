//! One instance of a service.

use std::{fmt, net::IpAddr, num::NonZeroU16, sync::Arc};

use super::{Labels, Transport};

/// An instance as a discovery source names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    pub address: IpAddr,
    /// The service's port where the source names none.
    pub port: Option<NonZeroU16>,
    /// The port of the service that it is an instance of; of all where `None`.
    pub serves: Option<Serves>,
    pub weight: Weight,
    pub locality: Arc<Locality>,
    /// 0 is used first: the priority of an SRV record. Ranks before locality.
    pub priority: u16,
    /// What routes select subsets by.
    pub labels: Labels,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serves {
    pub port: NonZeroU16,
    pub transport: Transport,
}

/// Share of picks, in proportion to the others'. 0 drains: nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// Where an instance, or this node, is. Empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    pub cloud: String,
    pub region: String,
    pub zone: String,
    pub node: String,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.cloud, &self.region, &self.zone, &self.node];
        let known = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
        for (index, part) in parts[..known].iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(if part.is_empty() { "?" } else { part })?;
        }
        Ok(())
    }
}
