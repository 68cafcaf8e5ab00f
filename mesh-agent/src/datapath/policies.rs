//! A service's policy as the hooks read it.

use std::{sync::LazyLock, time::Duration};

use mesh_common::{
    ejection,
    policy::{MAX_TIERS, Policy, SLOW_START_STEPS, flag},
};
use nix::time::{ClockId, clock_getres};

use super::limits::limit;
use crate::{
    model::{SlowStart, Timeouts},
    registry::ServicePort,
};

/// SYNs that a connect timeout has room for.
const SYNS: u64 = 3;
/// How long a probe may wait for an answer where no timeout says it.
const PROBE: Duration = Duration::from_secs(5);

/// A client that gives up after this long met a failure, where no timeout says
/// how long an answer may take.
const UNANSWERED: Duration = Duration::from_secs(1);

/// Ticks of the kernel's clock per second, which is how it counts timeouts: the
/// coarse clocks go by them.
static TICKS_PER_SECOND: LazyLock<u64> = LazyLock::new(|| {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |tick| tick.tv_nsec());
    // Unknown: as many as a tick of the slowest configuration has.
    u64::try_from(tick).ok().filter(|&ns| ns > 0).map_or(100, |ns| 1_000_000_000 / ns)
});

/// The policy of a service port.
pub(super) fn policy(port: &ServicePort) -> Policy {
    let mut policy = Policy::default();
    eject(port, &mut policy);
    wait(&port.policy.timeouts, &mut policy);
    start_slowly(port.policy.slow_start.unwrap_or_default(), &mut policy);
    limit(port, &mut policy);
    if port.is_bypassed() {
        policy.flags |= flag::BYPASS;
    }
    policy.affinity_ns = port.policy.session_affinity.map_or(0, nanos);
    policy
}

fn eject(port: &ServicePort, policy: &mut Policy) {
    let failover = &port.policy.failover;
    if !failover.ejection {
        return;
    }
    policy.flags |= flag::EJECT;
    policy.connect_failures = failover.consecutive.connect;
    policy.response_failures = failover.consecutive.responses;
    policy.eject_base_ns = nanos(failover.base);
    policy.eject_max_ns = nanos(failover.max);
    let mut sizes = [0; MAX_TIERS];
    for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.would_serve()) {
        sizes[usize::from(endpoint.tier).min(MAX_TIERS - 1)] += 1;
    }
    policy.max_ejected =
        sizes.map(|size| ejection::allowed(size, u32::from(failover.max_ejected.0)));
}

fn wait(timeouts: &Timeouts, policy: &mut Policy) {
    let connect = timeouts.connect_at_most();
    policy.syn_timeout_ms = millis(connect).max(1);
    let ticks = u64::from(policy.syn_timeout_ms) * *TICKS_PER_SECOND / 1000 / SYNS;
    policy.syn_repeat_ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
    policy.user_timeout_ms = millis(Timeouts::UNACKNOWLEDGED.max(connect));
    policy.response_timeout_ns = nanos(timeouts.request.unwrap_or(UNANSWERED));
    policy.probe_ns = nanos(connect.saturating_add(timeouts.request.unwrap_or(PROBE)));
}

/// The curve in steps: the hooks have integers only.
fn start_slowly(slow_start: SlowStart, policy: &mut Policy) {
    policy.slow_start_ns = nanos(slow_start.window);
    for (step, share) in policy.slow_start.iter_mut().enumerate() {
        let age = (step as f64 + 0.5) / SLOW_START_STEPS as f64;
        let grown = age.powf(1.0 / slow_start.aggression.factor());
        *share = (grown.max(slow_start.min_weight.share()).min(1.0) * f64::from(u16::MAX)) as u16;
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_is_the_curve_of_the_contract_in_steps() {
        let mut policy = Policy::default();
        let slow_start = SlowStart::default();
        start_slowly(slow_start, &mut policy);
        assert_eq!(policy.slow_start_ns, 30_000_000_000);
        let share = |step: usize| f64::from(policy.slow_start[step]) / f64::from(u16::MAX);
        // 10 % at least, then as much as the part of the window that is over.
        assert!((share(0) - 0.1).abs() < 0.001, "{}", share(0));
        for step in 2..SLOW_START_STEPS {
            let middle = (step as f64 + 0.5) / SLOW_START_STEPS as f64;
            assert!((share(step) - middle).abs() < 0.001, "{step}: {}", share(step));
        }
        assert!(policy.slow_start.is_sorted());
    }

    #[test]
    fn a_dead_instance_costs_the_connect_timeout() {
        let mut policy = Policy::default();
        let connect = Some(Duration::from_millis(600));
        wait(&Timeouts { connect, ..Timeouts::default() }, &mut policy);
        assert_eq!((policy.syn_timeout_ms, policy.user_timeout_ms), (600, 30_000));
        // The SYN goes out three times in that time.
        let repeat = u64::from(policy.syn_repeat_ticks) * 1000 / *TICKS_PER_SECOND;
        assert!((190..=200).contains(&repeat), "{repeat} ms");
        // Who waits longer to connect waits as long for what was sent.
        let connect = Some(Duration::from_secs(60));
        wait(&Timeouts { connect, ..Timeouts::default() }, &mut policy);
        assert_eq!((policy.syn_timeout_ms, policy.user_timeout_ms), (60_000, 60_000));
    }

    #[test]
    fn waits_for_answers_follow_the_request_timeout() {
        let mut policy = Policy::default();
        wait(&Timeouts::default(), &mut policy);
        assert_eq!(policy.response_timeout_ns, 1_000_000_000);
        assert_eq!(policy.probe_ns, 6_000_000_000);
        let request = Some(Duration::from_secs(2));
        wait(&Timeouts { request, ..Timeouts::default() }, &mut policy);
        assert_eq!((policy.response_timeout_ns, policy.probe_ns), (2_000_000_000, 3_000_000_000));
    }
}
