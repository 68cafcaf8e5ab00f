//! What traffic tells the health of a service port's instances.

use std::sync::Arc;

use super::{Endpoint, ServicePort};
use crate::{
    health::{Outcome, Probe, Rules, Tier, Verdict},
    model::LocalityMode,
    net,
};

impl ServicePort {
    /// Takes in what became of an attempt at one of its instances.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome, probe: Option<&Probe>) {
        let rules = Rules::from(&self.policy.failover);
        let at = (net::monotonic_ns(), rand::random());
        let tier = || self.tier_of(endpoint);
        self.outliers.report(&endpoint.health, outcome, probe, &rules, at, tier);
    }

    /// An instance whose exile is over, and the right to send it one request.
    pub fn probe(&self) -> Option<(Arc<Endpoint>, Probe)> {
        // Almost always: nothing is ejected.
        let mut ejected = self.endpoints.iter().filter(|one| one.health.is_ejected()).peekable();
        ejected.peek()?;
        let rules = Rules::from(&self.policy.failover);
        let at = (net::monotonic_ns(), rand::random());
        ejected
            .filter(|one| one.weight.0 > 0 && !one.live.is_drained())
            .filter(|one| one.tier == 0 || self.policy.locality.mode != LocalityMode::Strict)
            .find_map(|one| Some((one, self.outliers.claim(&one.health, &rules, at)?)))
            .map(|(one, probe)| (Arc::clone(one), probe))
    }

    /// Of its tier's instances, those that would be picked if none were ejected.
    fn tier_of(&self, endpoint: &Endpoint) -> Tier {
        let mut tier = Tier::default();
        for one in self.endpoints.iter().filter(|one| one.tier == endpoint.tier) {
            let counts = one.weight.0 > 0
                && !one.live.is_drained()
                && one.health.verdict() != Verdict::Unhealthy;
            tier.size += u32::from(counts);
            tier.ejected += u32::from(counts && one.health.is_ejected());
        }
        tier
    }
}
