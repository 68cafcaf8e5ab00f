//! Instances out of DNS: A and AAAA records, or SRV records and their targets.

mod addresses;
mod exchange;
mod message;
mod resolver;
mod service;
mod system;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use hickory_proto::rr::{Name, RecordType};

use self::{
    addresses::Merged,
    resolver::{Found, Resolver},
    service::Pointer,
};
use super::{Lookup, Outcome, is_usable, sockets::Sockets};
use crate::model::{DnsRecord, DnsSource, Instance};

/// Targets of SRV records whose addresses are looked up at a time.
const AT_A_TIME: usize = 8;

/// Asks for one [`DnsSource`].
#[derive(Debug)]
pub(super) struct DnsLookup {
    source: DnsSource,
    sockets: Sockets,
    /// Last known addresses of SRV targets: one that can't be looked up now
    /// keeps them.
    targets: HashMap<Name, Vec<IpAddr>>,
}

impl DnsLookup {
    pub fn new(source: DnsSource, sockets: Sockets) -> Self {
        Self { source, sockets, targets: HashMap::new() }
    }

    async fn addresses(&self, resolver: &Resolver, name: &Name, known: &[IpAddr]) -> Merged {
        let (v4, v6) = tokio::join!(
            resolver.resolve(name, RecordType::A),
            resolver.resolve(name, RecordType::AAAA)
        );
        addresses::merge(v4, v6, known)
    }

    async fn by_address(&self, resolver: &Resolver, name: &Name, current: &[Instance]) -> Outcome {
        let known: Vec<IpAddr> = current.iter().map(|instance| instance.address).collect();
        match self.addresses(resolver, name, &known).await {
            Merged::Failed(reason) => Outcome::failed(reason),
            Merged::Empty { ttl } => Outcome::found(Vec::new(), None, self.wait(ttl)),
            Merged::Addresses { addresses, ttl, trouble } => {
                let instance = |address| Instance {
                    address,
                    port: self.source.port,
                    serves: None,
                    weight: self.source.weight,
                    locality: self.source.locality.clone().shared(),
                    priority: 0,
                    labels: Arc::default(),
                };
                let usable = addresses.into_iter().filter(|&address| is_usable(address));
                Outcome::found(usable.map(instance).collect(), trouble, self.wait(Some(ttl)))
            }
        }
    }

    async fn by_service(
        &mut self,
        resolver: &Resolver,
        name: &Name,
        current: &[Instance],
    ) -> Outcome {
        let found = match resolver.resolve(name, RecordType::SRV).await {
            Err(error) => return Outcome::failed(error.to_string()),
            Ok(Found::Nothing { ttl }) => {
                return Outcome::found(Vec::new(), None, self.wait(ttl));
            }
            Ok(Found::Records(records)) => records,
        };
        let mut ttl = found.ttl;
        let pointers = match service::pointers(&found) {
            Ok(pointers) => pointers,
            Err(reason) => return Outcome::failed(reason),
        };
        let targets = self.look_up(resolver, &pointers, &found).await;
        let (mut known, mut trouble) = (HashMap::new(), None);
        for (target, merged) in targets {
            let addresses = match merged {
                Merged::Addresses { addresses, ttl: its, trouble: its_trouble } => {
                    ttl = ttl.min(its);
                    trouble = trouble.or(its_trouble);
                    addresses
                }
                Merged::Empty { .. } => Vec::new(),
                Merged::Failed(reason) => {
                    let reason = format!("{target}: {reason}");
                    let known = match self.targets.get(&target) {
                        Some(known) => known.clone(),
                        // Of an earlier run: nothing is taken out on a guess.
                        None if self.targets.is_empty() && !current.is_empty() => {
                            return Outcome::failed(reason);
                        }
                        None => Vec::new(),
                    };
                    trouble = Some(reason);
                    known
                }
            };
            known.insert(target, addresses);
        }
        let instances = service::instances(&pointers, &known, &self.source.locality);
        if instances.is_empty()
            && let Some(trouble) = trouble
        {
            return Outcome::failed(trouble);
        }
        self.targets = known;
        Outcome::found(instances, trouble, self.wait(Some(ttl)))
    }

    /// The addresses of all targets: as the answer has them, else by asking.
    async fn look_up(
        &self,
        resolver: &Resolver,
        pointers: &[Pointer],
        found: &resolver::Records,
    ) -> Vec<(Name, Merged)> {
        let targets = service::targets(pointers);
        stream::iter(targets)
            .map(|target| async move {
                let merged = match service::enclosed(found, &target) {
                    Some(merged) => merged,
                    None => {
                        let known = self.targets.get(&target).map_or(&[][..], Vec::as_slice);
                        self.addresses(resolver, &target, known).await
                    }
                };
                (target, merged)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await
    }

    /// How long an answer holds. Where it doesn't say: as briefly as allowed.
    fn wait(&self, ttl: Option<u32>) -> Duration {
        let ttl = Duration::from_secs(ttl.unwrap_or(0).into());
        // Not `clamp`, which panics where the bounds are the wrong way round.
        ttl.min(self.source.ttl_max).max(self.source.ttl_min)
    }
}

impl Lookup for DnsLookup {
    async fn ask(&mut self, current: &Arc<[Instance]>) -> Outcome {
        let name = match absolute(&self.source.name) {
            Ok(name) => name,
            Err(reason) => return Outcome::failed(reason),
        };
        let servers = match servers(&self.source).await {
            Ok(servers) => servers,
            Err(reason) => return Outcome::failed(reason),
        };
        let resolver =
            Resolver { sockets: self.sockets.clone(), servers, timeout: self.source.timeout };
        match self.source.record {
            DnsRecord::Address => self.by_address(&resolver, &name, current).await,
            DnsRecord::Srv => self.by_service(&resolver, &name, current).await,
        }
    }
}

/// No search list is applied: what a name means must not depend on the node.
fn absolute(name: &str) -> Result<Name, String> {
    let mut parsed =
        Name::from_ascii(name).map_err(|error| format!("{name:?} is no DNS name: {error}"))?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// Read anew each time: the file changes under long-running agents.
async fn servers(source: &DnsSource) -> Result<Vec<SocketAddr>, String> {
    match source.server {
        Some(server) => Ok(vec![server]),
        None => system::servers().await,
    }
}

#[cfg(test)]
mod tests;
