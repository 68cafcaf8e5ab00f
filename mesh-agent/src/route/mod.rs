//! Which route a request takes: the model of Gateway API's `HTTPRoute`.
//!
//! Pure: a request's head and a random number in, a decision out. Routes are
//! compiled once for a configuration; nothing is parsed for a request. It
//! refuses to know of instances and connections: the proxy carries out.

mod change;
mod condition;
mod rank;
mod redirect;
mod rewrite;
#[cfg(test)]
mod tests;
mod text;

pub use change::Changes;
pub use redirect::Redirect;
pub use rewrite::Rewrite;
pub use text::{actions, conditions};

use std::{sync::Arc, time::Duration};

use http::request;

use crate::model::{self, Filter, Retry, RouteBackend};
use condition::{Host, Rule};

/// The routes of a service, in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Routes {
    rules: Vec<Rule>,
    /// Any of them asks for a host.
    by_host: bool,
    /// In the order of the file.
    routes: Vec<Arc<Route>>,
}

/// What becomes of a request that takes this route.
#[derive(Debug)]
pub struct Route {
    pub name: String,
    hosts: Vec<Host>,
    pub request: Changes,
    pub response: Changes,
    pub redirect: Option<Redirect>,
    pub rewrite: Option<Rewrite>,
    /// It answers that there is no route.
    pub not_found: bool,
    /// By weight; the service's own instances where empty.
    pub backends: Vec<RouteBackend>,
    /// `Some(ZERO)` is no limit; `None` is the policy's.
    pub timeout: Option<Duration>,
    /// The policy's where `None`.
    pub retry: Option<Retry>,
}

impl Routes {
    /// Expressions and names in `routes` have been validated.
    pub fn new(routes: &[model::Route]) -> Self {
        let mut rules = Vec::new();
        let mut compiled = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let every = [model::RouteMatch::default()];
            let matches = if route.matches.is_empty() { &every } else { &route.matches[..] };
            rules.extend(matches.iter().map(|one| Rule::new(index, one)));
            compiled.push(Arc::new(Route::new(route)));
        }
        // Stable: of equals, the first one written stays the first.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.rank));
        let by_host = routes.iter().any(|route| !route.hosts.is_empty());
        Self { rules, by_host, routes: compiled }
    }

    /// The route of a request; `None` where none matches.
    pub fn find(&self, head: &request::Parts) -> Option<&Arc<Route>> {
        if self.rules.is_empty() {
            return None;
        }
        let host = if self.by_host { condition::host(head) } else { None };
        let host = host.as_deref();
        let mut best = None;
        for rule in &self.rules {
            let route = &self.routes[rule.route];
            // A more specific host comes before all else; then the rules' order.
            let Some(rank) = route.host_rank(host) else { continue };
            if best.is_some_and(|(before, _)| before >= rank) || !rule.matches(head) {
                continue;
            }
            best = Some((rank, route));
            if !self.by_host || rank.is_exact() {
                break;
            }
        }
        best.map(|(_, route)| route)
    }

    /// Whether some requests are answered without an instance of the service itself.
    pub fn need_no_instance(&self) -> bool {
        self.routes.iter().any(|route| {
            let elsewhere = |to: &RouteBackend| {
                to.weight > 0 && (to.service.is_some() || to.port.is_some() || to.unresolved)
            };
            route.redirect.is_some() || route.not_found || route.backends.iter().any(elsewhere)
        })
    }

    /// In the order of the file.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl Route {
    fn new(route: &model::Route) -> Self {
        let mut compiled = Self {
            name: route.name.clone(),
            hosts: route.hosts.iter().map(|host| Host::new(host)).collect(),
            request: Changes::default(),
            response: Changes::default(),
            redirect: None,
            rewrite: None,
            not_found: false,
            backends: route.backends.clone(),
            timeout: route.timeout,
            retry: route.retry.clone(),
        };
        for filter in &route.filters {
            match filter {
                Filter::RequestHeaders(changes) => compiled.request = Changes::new(changes),
                Filter::ResponseHeaders(changes) => compiled.response = Changes::new(changes),
                Filter::Redirect(to) => compiled.redirect = Some(Redirect::new(to, &route.matches)),
                Filter::Rewrite(to) => compiled.rewrite = Some(Rewrite::new(to, &route.matches)),
                Filter::NotFound => compiled.not_found = true,
            }
        }
        compiled
    }

    /// How well one of its hosts fits; `None` where none does.
    fn host_rank(&self, host: Option<&str>) -> Option<rank::HostRank> {
        if self.hosts.is_empty() {
            return Some(rank::HostRank::ANY);
        }
        let host = host?;
        self.hosts.iter().filter_map(|own| own.rank(host)).max()
    }

    /// One of its backends, in proportion to the weights: any `random` gives
    /// one. `None` is the service's own instances.
    pub fn backend(&self, random: u64) -> Option<&RouteBackend> {
        let total: u64 = self.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut left = random.checked_rem(total)?;
        self.backends.iter().find(|backend| {
            let mine = left < u64::from(backend.weight);
            left = left.saturating_sub(u64::from(backend.weight));
            mine
        })
    }
}
