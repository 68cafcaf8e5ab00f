//! Checks across services: what only one of them can have.

use std::{collections::HashMap, net::IpAddr};

use super::{Reporter, service};
use crate::{
    config::{
        problem::excerpt,
        raw::{File, Service},
    },
    model::Transport,
};

/// As many as the kernel's maps hold.
const MAX_FRONTENDS: usize = 65_536;
const MAX_BACKENDS: usize = 262_144;

pub fn check(file: &File, reporter: &mut Reporter<'_>) {
    names(file, reporter);
    hostnames(file, reporter);
    let frontends = frontends(file, reporter);
    loops(file, &frontends, reporter);
    sizes(file, reporter);
}

fn names(file: &File, reporter: &mut Reporter<'_>) {
    let mut seen = HashMap::new();
    for (index, service) in file.services.iter().enumerate() {
        let Some(name) = &service.name else { continue };
        let steps = |index: usize| ["services".into(), index.into(), "name".into()];
        if let Some(&first) = seen.get(&name.0) {
            let line = reporter.position(&steps(first)).line;
            let message = format!("`{}` is the name of the service in line {line} too", name.0);
            reporter.report(&steps(index), message);
        } else {
            seen.insert(&name.0, index);
        }
    }
}

fn hostnames(file: &File, reporter: &mut Reporter<'_>) {
    let mut seen = HashMap::new();
    for (index, service) in file.services.iter().enumerate() {
        for (at, hostname) in service.hostnames.iter().enumerate() {
            let steps = |(index, at): (usize, usize)| {
                ["services".into(), index.into(), "hostnames".into(), at.into()]
            };
            if let Some(&first) = seen.get(&hostname.0) {
                let line = reporter.position(&steps(first)).line;
                let message =
                    format!("`{}` is a hostname in line {line} too", excerpt(&hostname.0));
                reporter.report(&steps((index, at)), message);
            } else {
                seen.insert(&hostname.0, (index, at));
            }
        }
    }
}

/// Address, port and transport → index of the service.
type Frontends = HashMap<(IpAddr, u16, Transport), usize>;

fn frontends(file: &File, reporter: &mut Reporter<'_>) -> Frontends {
    let mut seen = HashMap::new();
    for (index, service) in file.services.iter().enumerate() {
        for (at, port) in service.ports.iter().flatten().enumerate() {
            let Some(port) = service::port(port) else { continue };
            let transport = port.protocol.transport();
            let steps = ["services".into(), index.into(), "ports".into(), at.into()];
            for address in service::addresses(service) {
                let number = port.port.get();
                let agents = number == file.capture.proxy_port || number == file.dns.port;
                if address.is_loopback() && agents {
                    let message = format!(
                        "{address} port {number} is where the agent itself listens; choose another"
                    );
                    reporter.report(&steps, message);
                }
                let first = *seen.entry((address, number, transport)).or_insert(index);
                if first != index {
                    let message = format!(
                        "{address} port {number}/{transport} belongs to {} already",
                        name(&file.services[first], first, reporter)
                    );
                    reporter.report(&steps, message);
                }
            }
        }
    }
    seen
}

/// Instances that are reached at another service's virtual address: the agent's
/// own sockets aren't captured, so nothing would answer there.
fn loops(file: &File, frontends: &Frontends, reporter: &mut Reporter<'_>) {
    for (index, service) in file.services.iter().enumerate() {
        let ports: Vec<_> = service.ports.iter().flatten().filter_map(service::port).collect();
        for (at, endpoint) in service.endpoints.fixed.iter().enumerate() {
            let Some(address) = endpoint.address.map(|address| address.0) else { continue };
            let found = ports.iter().find_map(|port| {
                let number = endpoint.port.unwrap_or(port.port).get();
                let found = *frontends.get(&(address, number, port.protocol.transport()))?;
                (found != index).then_some((found, number))
            });
            if let Some((other, number)) = found {
                let message = format!(
                    "{address} port {number} is a virtual address of {}: name that service's \
                     instances, or send requests there by a route's `backends`",
                    name(&file.services[other], other, reporter)
                );
                let static_at = ["endpoints".into(), "static".into(), at.into()];
                let steps =
                    [&["services".into(), index.into()], &static_at[..], &["address".into()]];
                reporter.report(&steps.concat(), message);
            }
        }
    }
}

fn name(service: &Service, index: usize, reporter: &Reporter<'_>) -> String {
    let line = reporter.position(&["services".into(), index.into()]).line;
    match &service.name {
        Some(name) => format!("service `{}` in line {line}", name.0),
        None => format!("the service in line {line}"),
    }
}

fn sizes(file: &File, reporter: &mut Reporter<'_>) {
    let mut frontends = 0;
    let mut backends = 0;
    for service in &file.services {
        let ports = service.ports.as_ref().map_or(0, Vec::len);
        frontends += ports * service::addresses(service).count();
        backends += ports * service.endpoints.fixed.len();
    }
    let bounds = [
        (frontends, MAX_FRONTENDS, "addresses times ports"),
        (backends, MAX_BACKENDS, "ports times endpoints"),
    ];
    for (count, most, what) in bounds {
        if count > most {
            let message =
                format!("{what} of all services are {count}: the kernel's maps hold {most}");
            reporter.report(&["services".into()], message);
        }
    }
}
