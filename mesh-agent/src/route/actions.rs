//! What is done to a request on its way, and to its answer: the filters of a
//! route, or of one of its backends.

use http::request;

use super::{Changes, Redirect, Rewrite};
use crate::model::{self, Filter, Fraction, RouteMatch};

#[derive(Debug, Default)]
pub struct Actions {
    request: Changes,
    pub response: Changes,
    pub redirect: Option<Redirect>,
    rewrite: Option<Rewrite>,
    pub mirrors: Vec<Mirror>,
}

/// Where a copy goes, of some of the requests.
#[derive(Debug)]
pub struct Mirror {
    pub to: model::Mirror,
}

impl Actions {
    /// `matches` are the route's.
    pub fn new(filters: &[Filter], matches: &[RouteMatch]) -> Self {
        let mut compiled = Self::default();
        for filter in filters {
            match filter {
                Filter::RequestHeaders(changes) => compiled.request = Changes::new(changes),
                Filter::ResponseHeaders(changes) => compiled.response = Changes::new(changes),
                Filter::Redirect(to) => compiled.redirect = Some(Redirect::new(to, matches)),
                Filter::Rewrite(to) => compiled.rewrite = Some(Rewrite::new(to, matches)),
                Filter::Mirror(to) => compiled.mirrors.push(Mirror { to: to.clone() }),
                Filter::NotFound => {}
            }
        }
        compiled
    }

    /// Changes what an instance is asked for.
    pub fn change_request(&self, head: &mut request::Parts) {
        self.request.apply_to_request(head);
        if let Some(rewrite) = &self.rewrite {
            rewrite.apply(head);
        }
    }
}

impl Mirror {
    /// Whether this request is one of those: so many of all `random` say so.
    pub fn takes(&self, random: u64) -> bool {
        let Fraction { numerator, denominator } = self.to.share;
        random % u64::from(denominator.max(1)) < u64::from(numerator)
    }
}
