//! What traffic tells the health of a service port's instances.

use std::sync::Arc;

use super::{Endpoint, ServicePort, Subset};
use crate::{
    health::{Outcome, Probe, Rules, Tier, Verdict},
    model::LocalityMode,
    net,
};

impl Endpoint {
    /// Whether it would be picked if nothing were ejected: `maxEjected` is a
    /// share of these, on both paths.
    pub fn would_serve(&self) -> bool {
        self.weight.0 > 0 && !self.live.is_drained() && self.health.verdict() != Verdict::Unhealthy
    }
}

impl ServicePort {
    /// Takes in what became of an attempt at one of its instances.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome, probe: Option<&Probe>) {
        let rules = Rules::from(&self.policy.failover);
        let at = (net::monotonic_ns(), rand::random());
        let tier = || self.tier_of(endpoint);
        self.outliers.report(&endpoint.health, outcome, probe, &rules, at, tier);
    }

    /// An instance whose exile is over, and the right to send it one request;
    /// of the subset, where only that will do.
    pub fn probe(&self, within: Option<&Subset>) -> Option<(Arc<Endpoint>, Probe)> {
        // Almost always: nothing is ejected.
        let mut ejected = self.endpoints.iter().filter(|one| one.health.is_ejected()).peekable();
        ejected.peek()?;
        let rules = Rules::from(&self.policy.failover);
        let at = (net::monotonic_ns(), rand::random());
        ejected
            .filter(|one| one.weight.0 > 0 && !one.live.is_drained())
            .filter(|one| within.is_none_or(|subset| one.has(&subset.labels)))
            .filter(|one| one.tier == 0 || self.policy.locality.mode != LocalityMode::Strict)
            .find_map(|one| Some((one, self.outliers.claim(&one.health, &rules, at)?)))
            .map(|(one, probe)| (Arc::clone(one), probe))
    }

    /// Of its tier's instances, those that would be picked if none were ejected.
    pub fn tier_of(&self, endpoint: &Endpoint) -> Tier {
        let mut tier = Tier::default();
        for one in self.endpoints.iter().filter(|one| one.tier == endpoint.tier) {
            let counts = one.would_serve();
            tier.size += u32::from(counts);
            tier.ejected += u32::from(counts && one.health.is_ejected());
        }
        tier
    }
}
