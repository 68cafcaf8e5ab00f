//! The limits of a service port's policy, as the hooks keep to them.

use mesh_common::{
    gcra,
    policy::{MAX_RATES, Policy, Rate, flag, rate_flag},
};

use super::policies::nanos;
use crate::{
    model::{LimitBy, Path, RateLimit},
    registry::ServicePort,
};

const _: () = assert!(RateLimit::MOST == MAX_RATES, "the hooks hold what a file may have");

/// Fills in what new connections, their number and their bytes are held to.
///
/// Of a proxied port nothing: the agent holds its requests to these limits.
/// While no agent answers the kernel balances them, and then nothing limits
/// them: `onAgentFailure: closed` is there for who can't have that.
pub(super) fn limit(port: &ServicePort, policy: &mut Policy) {
    if port.path != Path::Kernel {
        return;
    }
    policy.max_connections = port.policy.connections.max.map_or(0, u64::from);
    // Limits by a header need the agent.
    let rates =
        port.policy.rate_limits.iter().filter(|rate| !matches!(rate.by, LimitBy::Header(_)));
    for (slot, limit) in policy.rates.iter_mut().zip(rates) {
        *slot = rate(limit);
    }
    if port.policy.adaptive_concurrency.is_some() {
        policy.flags |= flag::ADAPTIVE;
    }
    if let Some(bandwidth) = port.policy.bandwidth {
        policy.upload = bandwidth.upload.map_or(0, u64::from);
        policy.download = bandwidth.download.map_or(0, u64::from);
        if bandwidth.by_client {
            policy.flags |= flag::BANDWIDTH_BY_CLIENT;
        }
    }
}

fn rate(limit: &RateLimit) -> Rate {
    let rate = gcra::Rate::new(limit.requests, nanos(limit.per), limit.burst);
    let mut flags = 0;
    if limit.by == LimitBy::Client {
        flags |= rate_flag::BY_CLIENT;
    }
    if limit.dry_run {
        flags |= rate_flag::DRY_RUN;
    }
    Rate { interval_ns: rate.interval, tolerance_ns: rate.tolerance, flags, zero: 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_what_the_agent_computes_too() {
        let limit = RateLimit {
            requests: 100,
            per: Duration::from_secs(1),
            burst: 20,
            by: LimitBy::Client,
            dry_run: true,
        };
        let rate = rate(&limit);
        assert_eq!((rate.interval_ns, rate.tolerance_ns), (10_000_000, 190_000_000));
        assert_eq!(rate.flags, rate_flag::BY_CLIENT | rate_flag::DRY_RUN);
    }
}
