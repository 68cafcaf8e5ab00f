//! Checks of one service by itself.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{Reporter, Step, route, source};
use crate::{
    config::raw::{Endpoint, File, Over, Policy, Port, Service, Several},
    model,
};

pub fn check(
    index: usize,
    service: &Service,
    file: &File,
    defaults: &Arc<model::Policy>,
    reporter: &mut Reporter<'_>,
) {
    let here = ["services".into(), index.into()];
    let mut seen = HashSet::new();
    for (at, address) in addresses(service).enumerate() {
        let steps = [&here[..], &["address".into(), at.into()]].concat();
        if let Some(problem) = not_unicast(address) {
            reporter.report(&steps, format!("`{address}` {problem}"));
        } else if !seen.insert(address) {
            reporter.report(&steps, format!("`{address}` stands here twice; remove one"));
        }
    }
    ports(&here, service, &self::policy(service, file, defaults), reporter);
    endpoints(&here, service, reporter);
    source::check(&here, service, file, reporter);
    super::policy::check_service(&here, service, &file.defaults.policy, reporter);
    route::check(&here, service, file, reporter);
}

pub fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let all = service.address.as_ref().map_or(&[][..], Several::as_slice);
    all.iter().map(|address| address.0)
}

pub fn port(raw: &Port) -> Option<model::Port> {
    Some(model::Port { port: raw.port?, protocol: raw.protocol.into() })
}

/// Merged. `defaults` are what the file's come to: most services have no policy
/// of their own, and there may be many.
pub fn policy(service: &Service, file: &File, defaults: &Arc<model::Policy>) -> Arc<model::Policy> {
    if service.policy == Policy::default() {
        return Arc::clone(defaults);
    }
    Arc::new(service.policy.over(&file.defaults.policy).model())
}

pub fn instance(raw: &Endpoint) -> Option<model::Instance> {
    Some(model::Instance {
        address: raw.address?.0,
        port: raw.port,
        serves: None,
        weight: model::Weight(raw.weight),
        locality: model::Locality::from(raw.locality.clone()).shared(),
        priority: 0,
        labels: model::labels(raw.labels.texts()),
    })
}

fn ports(
    here: &[Step<'_>],
    service: &Service,
    policy: &model::Policy,
    reporter: &mut Reporter<'_>,
) {
    let mut seen = HashMap::new();
    for (index, raw) in service.ports.iter().flatten().enumerate() {
        let Some(port) = port(raw) else { continue };
        let steps = [here, &["ports".into(), index.into()]].concat();
        let transport = port.protocol.transport();
        if let Some(first) = seen.insert((port.port, transport), index) {
            let message =
                format!("port {}/{transport} stands in ports[{first}] too; remove one", port.port);
            reporter.report(&steps, message);
        }
        let path = model::PathChoice::from(service.path);
        if let Err(conflict) = path.resolve(port.protocol, policy, model::Instances::Unknown) {
            let steps = [here, &["path".into()]].concat();
            reporter.report(&steps, format!("doesn't fit port {}: {conflict}", port.port));
        }
    }
}

fn endpoints(here: &[Step<'_>], service: &Service, reporter: &mut Reporter<'_>) {
    let mut seen = HashMap::new();
    let virtuals: HashSet<IpAddr> = addresses(service).collect();
    let ports: HashSet<_> = service.ports.iter().flatten().filter_map(|port| port.port).collect();
    for (index, endpoint) in service.endpoints.fixed.iter().enumerate() {
        let Some(address) = endpoint.address.map(|address| address.0) else { continue };
        let at = || {
            let steps = ["endpoints".into(), "static".into(), index.into()];
            [here, &steps, &["address".into()]].concat()
        };
        if let Some(problem) = not_unicast(address) {
            reporter.report(&at(), format!("`{address}` {problem}"));
            continue;
        }
        let own_port = endpoint.port.is_none_or(|port| ports.contains(&port));
        if virtuals.contains(&address) && own_port {
            let message = format!(
                "`{address}` is a virtual address of this very service, which would connect to \
                 itself: name the instance's own address, or another `port`"
            );
            reporter.report(&at(), message);
        }
        if let Some(first) = seen.insert((address, endpoint.port), index) {
            let message = format!(
                "the same instance stands in static[{first}] too; remove one and set its `weight`"
            );
            reporter.report(&at(), message);
        }
    }
}

/// Why nothing can be reached at this address alone.
fn not_unicast(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("means every address: name a single one");
    }
    if address.is_multicast() {
        return Some("is a multicast address: name a unicast one");
    }
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is the broadcast address: name a unicast one"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("is link-local, which means nothing without an interface: name a routable one")
        }
        _ => None,
    }
}
