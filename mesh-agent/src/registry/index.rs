//! Where in a snapshot a service, an address or a hostname is found. It rests
//! on the configuration alone, so that all snapshots between two reloads share
//! one.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use crate::model::{ServiceName, ServiceSpec, Transport};

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Address, port and transport → places of the service and of its port.
    pub frontends: HashMap<(IpAddr, u16, Transport), (usize, usize)>,
    pub hostnames: HashMap<String, usize>,
    pub names: HashMap<ServiceName, usize>,
}

impl Index {
    pub fn new(specs: &[Arc<ServiceSpec>]) -> Self {
        let mut index = Self::default();
        for (place, spec) in specs.iter().enumerate() {
            index.names.insert(spec.name.clone(), place);
            for (number, port) in spec.ports.iter().enumerate() {
                for &address in &spec.addresses {
                    let key = (address, port.port.get(), port.protocol.transport());
                    index.frontends.insert(key, (place, number));
                }
            }
            for hostname in &spec.hostnames {
                index.hostnames.insert(hostname.clone(), place);
            }
        }
        index
    }
}
