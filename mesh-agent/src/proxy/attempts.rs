//! Picking an instance for each attempt: none gets two chances, and further
//! attempts keep to the budget.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use super::{
    admission,
    pick::{Caller, pick},
};
use crate::{
    health::Probe,
    model::{FailoverMode, Retry},
    net,
    registry::{Endpoint, ServicePort},
    retry::{Permit, Reason},
};

/// Attempts for one request or connection.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    retry: &'a Retry,
    caller: Caller,
    most: u32,
    count: u32,
    tried: Vec<SocketAddr>,
    /// Of the retry under way.
    permit: Option<Permit>,
    /// Instances over their limit of `adaptiveConcurrency` are picked too.
    pub any_load: bool,
}

/// An instance for one attempt.
#[derive(Debug)]
pub(super) struct Picked {
    pub endpoint: Arc<Endpoint>,
    /// This attempt decides whether the instance comes back from its exile.
    pub probe: Option<Probe>,
}

impl<'a> Attempts<'a> {
    pub fn new(port: &ServicePort, retry: &'a Retry, caller: Caller) -> Self {
        let failover = &port.policy.failover;
        let most = match failover.mode {
            FailoverMode::Once => 1,
            FailoverMode::Fast => {
                retry.attempts.map_or(u32::from(failover.attempts), |more| u32::from(more) + 1)
            }
        };
        Self { retry, caller, most, count: 0, tried: Vec::new(), permit: None, any_load: false }
    }

    /// Counts a first attempt whose instance was picked elsewhere.
    pub fn made(&mut self, port: &ServicePort, endpoint: &Endpoint) {
        port.budget.request(net::coarse_ns());
        self.count = 1;
        self.tried.push(endpoint.address);
    }

    /// The instance of the first attempt: one whose exile is over, if there is
    /// one, because without a probe it would never come back.
    pub fn first(&mut self, port: &ServicePort) -> Option<Picked> {
        port.budget.request(net::coarse_ns());
        self.count = 1;
        let picked = match port.probe(self.caller.subset(port)) {
            Some((endpoint, probe)) => Picked { endpoint, probe: Some(probe) },
            None => Picked { endpoint: self.pick(port)?, probe: None },
        };
        self.note(&picked.endpoint);
        Some(picked)
    }

    /// The instance of a further attempt; `None` when all were tried, or
    /// enough, or the budget is used up.
    pub fn next(&mut self, port: &ServicePort, reason: Reason) -> Option<Picked> {
        if self.count >= self.most {
            return None;
        }
        let endpoint = self.pick(port)?;
        self.permit = None;
        self.permit = Some(port.budget.permit(&self.retry.budget, net::coarse_ns())?);
        self.count += 1;
        port.stats.retries[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.note(&endpoint);
        Some(Picked { endpoint, probe: None })
    }

    /// Further attempts so far.
    pub fn retries(&self) -> u32 {
        self.count.saturating_sub(1)
    }

    fn pick(&self, port: &ServicePort) -> Option<Arc<Endpoint>> {
        let panic = self.caller.subset(port).map_or(port.panic, |subset| subset.panic);
        let usable = |index: usize| {
            let endpoint = &port.endpoints[index];
            (panic || endpoint.health.is_usable())
                && !self.tried.contains(&endpoint.address)
                && (self.any_load || admission::has_room(endpoint))
        };
        let index = pick(port, self.caller, usable)?;
        Some(Arc::clone(&port.endpoints[index]))
    }

    fn note(&mut self, endpoint: &Endpoint) {
        endpoint.live.picks.fetch_add(1, Ordering::Relaxed);
        self.tried.push(endpoint.address);
    }
}
