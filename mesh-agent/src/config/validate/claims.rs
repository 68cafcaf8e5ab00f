//! Checks across services: what only one of them can have.

use std::collections::HashMap;

use super::{Reporter, service};
use crate::config::{
    problem::excerpt,
    raw::{File, Service},
};

/// As many as the kernel's maps hold.
const MAX_FRONTENDS: usize = 65_536;
const MAX_BACKENDS: usize = 262_144;

pub fn check(file: &File, reporter: &mut Reporter<'_>) {
    names(file, reporter);
    hostnames(file, reporter);
    frontends(file, reporter);
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

fn frontends(file: &File, reporter: &mut Reporter<'_>) {
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
                let (first, ..) = *seen.entry((address, number, transport)).or_insert((index, at));
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
