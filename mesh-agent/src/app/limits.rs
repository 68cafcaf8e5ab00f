//! What the limits of a service port let through and refused, on both paths.

use super::agent::Agent;
use crate::{
    admin::ReasonView,
    limit::Counted,
    model::{Path as Way, Transport},
    registry::ServicePort,
};

/// What limits refused, by `x-mesh-error`; what the hooks refused, of which
/// they only keep the sum for each service, is `connect`.
pub(super) fn refused(port: &ServicePort, by_kernel: u64) -> Vec<ReasonView> {
    let of_proxy = port.flow.refusals.each();
    let all = of_proxy.chain(std::iter::once(("connect", by_kernel)));
    all.filter(|&(_, count)| count > 0)
        .map(|(name, count)| ReasonView { name: name.to_owned(), count })
        .collect()
}

/// How far `policy.connections` is used up, in words.
pub(super) fn of_connections(agent: &Agent, port: &ServicePort) -> Vec<String> {
    let of_kernel = || {
        let counters = agent.kernel()?.tables().port_counters(&port.key())?;
        Some(counters.opened.saturating_sub(counters.closed))
    };
    let tcp = port.port.protocol.transport() == Transport::Tcp;
    let counted = [
        (Counted::Connections, "connections.max"),
        (Counted::Pending, "connections.maxPending"),
        (Counted::Requests, "connections.maxRequests"),
    ];
    let shown = counted.into_iter().filter_map(|(counted, key)| {
        let max = u64::from(port.flow.max(counted)?);
        let (now, refused) = match (port.path, counted) {
            (Way::Kernel, Counted::Connections) if tcp => {
                (of_kernel()?, "connect fails with EAGAIN")
            }
            (Way::Kernel, _) => return None,
            (Way::Proxy, Counted::Connections) if port.port.protocol.is_http() => {
                (u64::from(port.flow.breaker.count(counted)), "a request waits until one is closed")
            }
            (Way::Proxy, Counted::Connections) => {
                (u64::from(port.flow.breaker.count(counted)), "a connection is reset")
            }
            (Way::Proxy, _) => {
                (u64::from(port.flow.breaker.count(counted)), "a request is refused with 503")
            }
        };
        let over = if now < max { String::new() } else { format!(": {refused}") };
        Some(format!("{now} of {max} by policy.{key}{over}"))
    });
    shown.collect()
}
