//! Where a request goes, and what is changed on its way: what `crate::route`
//! decides, carried out.

use std::{
    num::NonZeroU16,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderMap, request};
use rand::random;
use tokio::time::Instant;

use super::{error::Failure, exchange::Exchange};
use crate::{
    health::Outcome,
    model::{Port, RouteBackend, ServiceName, Transport},
    proxy::{attempts::Picked, upstream::ConnectError},
    registry::ServicePort,
    route::Actions,
};

impl Exchange {
    /// Takes the route of this request, if it has one. From here on, its port
    /// is the one whose instances may answer.
    pub fn route(&mut self, head: &mut request::Parts) -> Result<(), Failure> {
        // A tunnel's target is a host, not a path.
        let found = if self.connect { None } else { self.port.routes.find(head) };
        let Some(route) = found.map(Arc::clone) else { return Ok(()) };
        redirect(&route.actions, head)?;
        if route.not_found {
            return Err(Failure::NoRoute);
        }
        self.backend = route.backend(random());
        let backend = self.backend.map(|index| &route.backends[index]);
        if let Some(backend) = backend {
            if backend.to.unresolved {
                return Err(Failure::NoBackend);
            }
            redirect(&backend.actions, head)?;
        }
        route.actions.change_request(head);
        self.mirror(&route.actions.mirrors, head);
        if let Some(backend) = backend {
            backend.actions.change_request(head);
            self.mirror(&backend.actions.mirrors, head);
            self.send_to(&backend.to)?;
        }
        let timeout = match route.timeout {
            Some(timeout) => Some(timeout).filter(|timeout| !timeout.is_zero()),
            None => self.port.policy.timeouts.request,
        };
        self.deadline = timeout.map(|timeout| Instant::now() + timeout);
        self.route = Some(route);
        Ok(())
    }

    fn send_to(&mut self, backend: &RouteBackend) -> Result<(), Failure> {
        let gone = || Failure::Connect(ConnectError::NoInstance);
        let before = Arc::clone(&self.port);
        if backend.service.is_some() || backend.port.is_some() {
            let named = (backend.service.as_ref(), backend.port);
            self.port = self.target(named).ok_or_else(gone)?;
        }
        if !backend.subset.is_empty() {
            let found = self.port.subsets.iter().position(|one| one.labels == backend.subset);
            self.subset = Some(found.ok_or_else(gone)?);
        }
        let same = Arc::ptr_eq(&before, &self.port);
        if !same {
            self.port.stats.requests.fetch_add(1, Ordering::Relaxed);
        }
        self.reconsider(&before, |picked| same && picked.endpoint.has(&backend.subset));
        Ok(())
    }

    /// Gives up the connection that was opened before the request was known,
    /// where it leads elsewhere.
    fn reconsider(&self, port: &ServicePort, fits: impl Fn(&Picked) -> bool) {
        let mut opened = self.session.opened.borrow_mut();
        let Some((picked, _)) = opened.take_if(|(picked, _)| !fits(picked)) else { return };
        if let Some(probe) = &picked.probe {
            // It came about: no more will be known of it.
            port.report(&picked.endpoint, Outcome::Answered, Some(probe));
        }
    }

    /// The service port that is named, of the port that was asked for where
    /// something isn't; `None` where a reload has just taken it away.
    pub fn target(
        &self,
        (service, port): (Option<&ServiceName>, Option<NonZeroU16>),
    ) -> Option<Arc<ServicePort>> {
        let name = service.unwrap_or(&self.port.service);
        let number = port.unwrap_or(self.port.port.port);
        self.session.connection.worker.with_snapshot(|snapshot| {
            let mut ports = snapshot.service(name.as_str())?.ports.iter();
            ports
                .find(|port| {
                    let Port { port, protocol } = port.port;
                    port == number && protocol.transport() == Transport::Tcp
                })
                .map(Arc::clone)
        })
    }

    /// The route's changes of a response, after those of one hop are out; then
    /// those of the backend.
    pub fn change_response(&self, headers: &mut HeaderMap) {
        let Some(route) = &self.route else { return };
        route.actions.response.apply(headers);
        if let Some(index) = self.backend {
            route.backends[index].actions.response.apply(headers);
        }
    }
}

fn redirect(actions: &Actions, head: &request::Parts) -> Result<(), Failure> {
    let Some(redirect) = &actions.redirect else { return Ok(()) };
    let location = redirect.location(head).ok_or(Failure::Malformed("there is no Host"))?;
    Err(Failure::Redirect { status: redirect.status, location })
}
