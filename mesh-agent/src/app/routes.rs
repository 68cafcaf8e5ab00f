//! The routes of a service port, as commands show them.

use std::sync::Arc;

use crate::{
    admin::{ExplainedBackend, ExplainedRoute},
    model::{Filter, Protocol, Route, RouteBackend},
    registry::{ServicePort, Snapshot},
    route::{actions, conditions, filters},
};

pub(super) fn of(snapshot: &Snapshot, port: &ServicePort) -> Vec<ExplainedRoute> {
    let service = snapshot.service(port.service.as_str());
    let routes = service.map_or(&[][..], |service| &service.spec.routes);
    let takes_requests = port.port.protocol.is_http() || port.port.protocol == Protocol::Auto;
    let routes = routes.iter().filter(|route| {
        takes_requests && (route.ports.is_empty() || route.ports.contains(&port.port.port))
    });
    routes
        .map(|route| ExplainedRoute {
            name: route.name.clone(),
            requests: conditions(route),
            actions: actions(route),
            backends: backends(snapshot, port, route),
        })
        .collect()
}

fn backends(snapshot: &Snapshot, port: &ServicePort, route: &Route) -> Vec<ExplainedBackend> {
    if route.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_) | Filter::NotFound)) {
        return Vec::new();
    }
    let own = [RouteBackend {
        service: None,
        port: None,
        subset: Arc::default(),
        weight: 1,
        filters: Vec::new(),
        unresolved: false,
    }];
    let all = if route.backends.is_empty() { &own } else { &route.backends[..] };
    let total: u64 = all.iter().map(|backend| u64::from(backend.weight)).sum();
    all.iter()
        .map(|backend| {
            let name = backend.service.as_ref().unwrap_or(&port.service);
            let number = backend.port.unwrap_or(port.port.port);
            let ports = snapshot.service(name.as_str()).map(|service| &service.ports);
            let target = ports.into_iter().flatten().find(|one| one.port.port == number);
            let fitting = target.map_or(0, |target| {
                target.endpoints.iter().filter(|one| one.has(&backend.subset)).count()
            });
            let labels = backend.subset.iter();
            ExplainedBackend {
                service: name.to_string(),
                port: number.get(),
                subset: labels.map(|(name, value)| format!("{name}={value}")).collect(),
                share: 100.0 * f64::from(backend.weight) / (total.max(1) as f64),
                instances: fitting,
                actions: filters(&backend.filters),
            }
        })
        .collect()
}
