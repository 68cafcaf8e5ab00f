//! Which route a request takes: the model of Gateway API's `HTTPRoute`.
//!
//! Pure: a request's head and a random number in, a decision out. Routes are
//! compiled once for a configuration; nothing is parsed for a request. It
//! refuses to know of instances and connections: the proxy carries out.

mod actions;
mod change;
mod condition;
mod rank;
mod redirect;
mod rewrite;
#[cfg(test)]
mod tests;
mod text;

pub use actions::{Actions, Mirror};
pub use change::Changes;
pub use redirect::Redirect;
pub use rewrite::Rewrite;
pub use text::{actions, conditions, filters};

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
    /// What is done to all its requests.
    pub actions: Actions,
    /// It answers that there is no route.
    pub not_found: bool,
    /// By weight; the service's own instances where empty.
    pub backends: Vec<Backend>,
    /// `Some(ZERO)` is no limit; `None` is the policy's.
    pub timeout: Option<Duration>,
    /// The policy's where `None`.
    pub retry: Option<Retry>,
}

/// One of the places where a route's requests go.
#[derive(Debug)]
pub struct Backend {
    pub to: RouteBackend,
    /// What is done to the requests that it gets, after the route's own.
    pub actions: Actions,
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
            let elsewhere = |Backend { to, actions }: &Backend| {
                let other = to.service.is_some() || to.port.is_some() || to.unresolved;
                to.weight > 0 && (other || actions.redirect.is_some())
            };
            let redirects = route.actions.redirect.is_some();
            redirects || route.not_found || route.backends.iter().any(elsewhere)
        })
    }

    /// In the order of the file.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl Route {
    fn new(route: &model::Route) -> Self {
        let actions = |filters: &[Filter]| Actions::new(filters, &route.matches);
        let backend = |to: &RouteBackend| Backend { to: to.clone(), actions: actions(&to.filters) };
        Self {
            name: route.name.clone(),
            hosts: route.hosts.iter().map(|host| Host::new(host)).collect(),
            actions: actions(&route.filters),
            not_found: route.filters.contains(&Filter::NotFound),
            backends: route.backends.iter().map(backend).collect(),
            timeout: route.timeout,
            retry: route.retry.clone(),
        }
    }

    /// How well one of its hosts fits; `None` where none does.
    fn host_rank(&self, host: Option<&str>) -> Option<rank::HostRank> {
        if self.hosts.is_empty() {
            return Some(rank::HostRank::ANY);
        }
        let host = host?;
        self.hosts.iter().filter_map(|own| own.rank(host)).max()
    }

    /// The index of one of its backends, in proportion to the weights: any
    /// `random` gives one. `None` is the service's own instances.
    pub fn backend(&self, random: u64) -> Option<usize> {
        let weight = |backend: &Backend| u64::from(backend.to.weight);
        let total: u64 = self.backends.iter().map(weight).sum();
        let mut left = random.checked_rem(total)?;
        self.backends.iter().position(|backend| {
            let mine = left < weight(backend);
            left = left.saturating_sub(weight(backend));
            mine
        })
    }
}
