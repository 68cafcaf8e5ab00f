//! The agent as its commands see it.

use std::{net::SocketAddr, sync::Arc};

use futures_util::{
    future::{BoxFuture, FutureExt as _},
    stream::BoxStream,
};

use super::{agent::Agent, connections, explain, metrics, reload, tap, traffic, views};
use crate::admin::{
    AgentState, ConnectionView, Control, ControlError, DrainOutcome, DrainRequest, EndpointState,
    EndpointView, ExplainRequest, Explanation, LogLevel, ReloadOutcome, ServiceView, Status,
    TapLine, Traffic,
};
use crate::tap::Filter;

impl Control for Agent {
    fn status(&self) -> Status {
        views::status(self)
    }

    fn services(&self) -> Vec<ServiceView> {
        views::services(self)
    }

    fn endpoints(&self, service: Option<&str>) -> Result<Vec<EndpointView>, ControlError> {
        if let Some(name) = service
            && self.snapshots.load().service(name).is_none()
        {
            return Err(unknown_service(self, name));
        }
        Ok(views::endpoints(self, service))
    }

    fn connections(&self) -> Vec<ConnectionView> {
        connections::all(self)
    }

    fn traffic(&self) -> Traffic {
        traffic::traffic(self)
    }

    fn tap(
        self: Arc<Self>,
        filter: Filter,
    ) -> Result<BoxStream<'static, Vec<TapLine>>, ControlError> {
        if let Some(name) = &filter.service
            && self.snapshots.load().service(name).is_none()
        {
            return Err(unknown_service(&self, name));
        }
        tap::watch(&self, filter)
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ControlError> {
        explain::explain(self, request)
    }

    fn reload(&self) -> BoxFuture<'_, Result<ReloadOutcome, ControlError>> {
        reload::reload(self).boxed()
    }

    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<DrainOutcome, ControlError>> {
        async move {
            let endpoint: SocketAddr = request.endpoint.parse().map_err(|_| {
                ControlError::Invalid(format!(
                    "{:?} is no address and port, such as 10.1.0.5:9080 or [fd00::5]:9080",
                    request.endpoint
                ))
            })?;
            if !self.set_drained(&request.service, endpoint, request.drained).await? {
                return Err(unknown_endpoint(self, &request));
            }
            let instances = views::endpoints(self, Some(&request.service));
            let this = instances.iter().filter(|view| view.address == request.endpoint);
            Ok(DrainOutcome {
                in_flight: this.map(|view| view.in_flight).sum(),
                available: instances
                    .iter()
                    .filter(|view| view.state == EndpointState::Available)
                    .count() as u64,
                service: request.service,
                endpoint: request.endpoint,
                drained: request.drained,
            })
        }
        .boxed()
    }

    fn log_level(&self) -> LogLevel {
        LogLevel { filter: self.logs.filter() }
    }

    fn set_log_level(&self, level: LogLevel) -> Result<LogLevel, ControlError> {
        self.logs.set(&level.filter).map_err(|error| ControlError::Invalid(error.to_string()))?;
        self.follow_log_level();
        Ok(self.log_level())
    }

    fn metrics(&self) -> String {
        metrics::page(self)
    }

    fn health(&self) -> Result<(), String> {
        // Asked for through the runtime that writes the heartbeat: an answer
        // says that it turns. A stale heartbeat says that it doesn't any more.
        match self.kernel().and_then(super::kernel::Kernel::beat_age_ms) {
            Some(age) if age > 5_000 => Err(format!("the last heartbeat was {age} ms ago")),
            _ => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        match self.state() {
            AgentState::Serving => Ok(()),
            AgentState::Starting => Err("starting".to_owned()),
            AgentState::Draining => Err("draining".to_owned()),
        }
    }
}

fn unknown_service(agent: &Agent, name: &str) -> ControlError {
    let snapshot = agent.snapshots.load();
    let names: Vec<_> = snapshot.services.iter().map(|s| s.spec.name.as_str()).collect();
    ControlError::NotFound(format!("there is no service {name:?}; there are: {}", listed(&names)))
}

fn unknown_endpoint(agent: &Agent, request: &DrainRequest) -> ControlError {
    if agent.snapshots.load().service(&request.service).is_none() {
        return unknown_service(agent, &request.service);
    }
    let instances = views::endpoints(agent, Some(&request.service));
    let names: Vec<_> = instances.iter().map(|view| view.address.as_str()).collect();
    ControlError::NotFound(format!(
        "{} has no instance {}; it has: {}",
        request.service,
        request.endpoint,
        listed(&names)
    ))
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names if names.len() > 20 => {
            format!("{} … ({} in all)", names[..20].join(", "), names.len())
        }
        names => names.join(", "),
    }
}
