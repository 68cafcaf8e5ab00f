//! What of `policy` stands before any instance: rate limits and circuit
//! breaking decide here whether a request or connection is let in at all.

use std::{sync::atomic::Ordering, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::{connection::Connection, pick::workload};
use crate::{
    limit::{Counted, Quota, Refusal, Slot, Subject},
    registry::{Endpoint, ServicePort},
};

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Admission {
    /// Counts it as under way until it is dropped.
    pub slot: Slot,
    /// What is left of the rate limit.
    pub quota: Option<Quota>,
}

/// Lets a request in, or says why not.
pub(super) fn request(
    connection: &Connection,
    port: &ServicePort,
    headers: &HeaderMap,
) -> Result<Admission, Refusal> {
    // First what costs nothing to give back.
    let slot = port.flow.enter(Counted::Requests)?;
    let subject = Subject { client: workload(connection), headers: Some(headers) };
    let quota = pass(port, &subject)?;
    Ok(Admission { slot, quota })
}

/// Lets a connection in whose bytes are none of the agent's business. It counts
/// until what is returned is dropped.
pub(super) fn connection(connection: &Connection, port: &ServicePort) -> Result<Slot, Refusal> {
    let slot = port.flow.enter(Counted::Connections)?;
    let subject = Subject { client: workload(connection), headers: None };
    pass(port, &subject)?;
    Ok(slot)
}

/// Where there are no rate limits, nobody looks at the clock.
fn pass(port: &ServicePort, subject: &Subject<'_>) -> Result<Option<Quota>, Refusal> {
    match port.flow.has_rates() {
        true => port.flow.pass(subject, Instant::now().into_std()),
        false => Ok(None),
    }
}

/// Whether an instance is under its limit of `adaptiveConcurrency`.
pub(super) fn has_room(endpoint: &Endpoint) -> bool {
    endpoint.concurrency.has_room(endpoint.live.in_flight.load(Ordering::Relaxed))
}

/// Why nothing was picked, where instances at their limit are the reason.
pub(super) fn overloaded(port: &ServicePort) -> Option<Refusal> {
    // Not whether they are full: since the pick, another worker may have made
    // room. An instance that is taken out for another reason isn't the reason.
    let limited = |endpoint: &Endpoint| endpoint.concurrency.limit().is_some();
    let usable = |endpoint: &Endpoint| endpoint.turns > 0 && endpoint.health.is_usable();
    let overloaded = port.endpoints.iter().any(|one| limited(one) && usable(one));
    overloaded.then(|| {
        port.flow.refusals.add(&Refusal::Concurrency);
        Refusal::Concurrency
    })
}

/// Tells a client what is left of its limit. An instance with limits of its
/// own knows better what they are.
pub(super) fn tell(quota: &Quota, headers: &mut HeaderMap) {
    for (name, value) in [
        ("x-ratelimit-limit", quota.limit.into()),
        ("x-ratelimit-remaining", quota.remaining),
        ("x-ratelimit-reset", seconds(quota.reset)),
    ] {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from(value));
    }
}

/// Whole seconds, as these headers have them: not too few.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
