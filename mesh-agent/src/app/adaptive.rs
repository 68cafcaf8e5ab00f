//! `adaptiveConcurrency` on the kernel path: response times that the hooks saw
//! go into the rule, and the limits that come out go to the hooks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{agent::Agent, kernel::Kernel};
use crate::{
    datapath::{BackendCounters, RECENT},
    model::{Path, Transport},
    registry::{Endpoint, ServicePort, Snapshot},
};

/// As often as the limit is computed anew, by default.
const PERIOD: Duration = Duration::from_millis(100);
/// While no service asks for it.
const RESTING: Duration = Duration::from_secs(1);
/// The rule takes a median. Of a burst of answers the hooks keep the last few;
/// in as many copies as make this many samples, they have weight enough.
const ENOUGH: u64 = 100;

/// Answers of each backend.
type Seen = HashMap<u32, u64>;

pub(super) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let Some(kernel) = agent.kernel() else { return };
    let mut seen = Seen::new();
    let mut failing = false;
    loop {
        let period = if seen.is_empty() { RESTING } else { PERIOD };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        let limits = look(kernel, &agent.snapshots.load(), &mut seen, Instant::now());
        let result = kernel.concurrency().write(&limits);
        if let Err(error) = &result
            && !failing
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "writing limits of concurrency failed: those written before stay"
            );
        }
        failing = result.is_err();
    }
}

/// Feeds the rule of each instance with what is new, and returns the limits.
fn look(kernel: &Kernel, snapshot: &Snapshot, seen: &mut Seen, now: Instant) -> HashMap<u32, u64> {
    let (mut limits, mut next) = (HashMap::new(), Seen::new());
    for port in snapshot.ports().filter(|port| applies(port)) {
        let endpoints: HashMap<SocketAddr, &Arc<Endpoint>> =
            port.endpoints.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let tables = kernel.tables();
        let Some(id) = tables.port_id(&port.key()) else { continue };
        let backends = tables.backends_of(id);
        drop(tables);
        for (backend, counters) in backends {
            let address = counters.address.to_socket_addr();
            let Some(endpoint) = endpoints.get(&address) else { continue };
            next.insert(backend, counters.answers);
            if let Some(&before) = seen.get(&backend) {
                feed(endpoint, &counters, before, now);
            }
            // Nothing is known before the first answer.
            if counters.answers > 0
                && let Some(limit) = endpoint.concurrency.limit()
            {
                limits.insert(backend, u64::from(limit));
            }
        }
    }
    *seen = next;
    limits
}

fn applies(port: &ServicePort) -> bool {
    port.path == Path::Kernel
        && port.port.protocol.transport() == Transport::Tcp
        && port.policy.adaptive_concurrency.is_some()
}

fn feed(endpoint: &Endpoint, counters: &BackendCounters, before: u64, now: Instant) {
    let open = counters.opened.saturating_sub(counters.closed);
    let open = u32::try_from(open).unwrap_or(u32::MAX);
    for waited in samples(counters.answers, before, &counters.recent_us) {
        endpoint.concurrency.sample(waited, open, now);
    }
}

/// The response times that are new, as far as the hooks kept them.
fn samples(answers: u64, before: u64, recent_us: &[u32; RECENT]) -> impl Iterator<Item = Duration> {
    let new = answers.saturating_sub(before);
    let kept = new.min(RECENT as u64);
    let copies = new.min(ENOUGH).checked_div(kept).unwrap_or(0);
    (answers - kept..answers).flat_map(move |nth| {
        let waited = Duration::from_micros(u64::from(recent_us[nth as usize % RECENT]));
        (0..copies).map(move |_| waited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limit::Concurrency, model::AdaptiveConcurrency};

    /// The ring as the hooks write it.
    fn answered(recent_us: &mut [u32; RECENT], answers: &mut u64, waited_us: u32) {
        recent_us[*answers as usize % RECENT] = waited_us;
        *answers += 1;
    }

    #[test]
    fn each_new_answer_is_a_sample_and_of_a_burst_the_last_are() {
        let (mut recent_us, mut answers) = ([0; RECENT], 0);
        assert_eq!(samples(answers, 0, &recent_us).count(), 0);
        for waited in 1..=5 {
            answered(&mut recent_us, &mut answers, waited);
        }
        let of = |before, answers, recent_us: &[u32; RECENT]| -> Vec<u128> {
            samples(answers, before, recent_us).map(|waited| waited.as_micros()).collect()
        };
        assert_eq!(of(0, answers, &recent_us), [1, 2, 3, 4, 5]);
        assert_eq!(of(3, answers, &recent_us), [4, 5]);
        for waited in 6..=1000 {
            answered(&mut recent_us, &mut answers, waited);
        }
        let burst = of(5, answers, &recent_us);
        assert_eq!(burst.len(), 96, "16 answers, 6 times each");
        assert_eq!((burst.iter().min(), burst.iter().max()), (Some(&985), Some(&1000)));
    }

    /// A server of four workers that take 10 ms for a request, and for every
    /// tenth 60 ms, behind a limit that clients use up most of the time: seen as
    /// the kernel path sees it, every 100 ms.
    #[test]
    fn the_limit_settles_near_what_the_server_works_at_a_time() {
        const WORKERS: u64 = 4;
        let concurrency = Concurrency::default();
        concurrency.configure(Some(&AdaptiveConcurrency::default()));
        let (mut recent_us, mut answers, began) = ([0; RECENT], 0, Instant::now());
        let mut limits = Vec::new();
        for tick in 0..600 {
            let limit = concurrency.limit().unwrap();
            let under_way = if tick % 20 < 4 { 1 } else { limit };
            // Who comes at a full server waits for those before it.
            let queue = u64::from(under_way).saturating_sub(WORKERS);
            let before = answers;
            for nth in 0..26 {
                let work = if nth % 10 == 9 { 60_000 } else { 10_000 };
                let wait = queue * 15_000 / WORKERS;
                answered(&mut recent_us, &mut answers, (work + wait) as u32);
            }
            let now = began + PERIOD * tick;
            for waited in samples(answers, before, &recent_us) {
                concurrency.sample(waited, under_way, now);
            }
            limits.push(limit);
        }
        let settled = &limits[300..];
        let mean = f64::from(settled.iter().sum::<u32>()) / settled.len() as f64;
        // Where limit = gradient · limit + √limit: between 6 and 7.
        assert!((5.0..=8.0).contains(&mean), "{mean}: {settled:?}");
        // For two intervals after a quiet time it is higher: nothing queued then.
        assert!(settled.iter().all(|&limit| (4..=12).contains(&limit)), "{settled:?}");
    }
}
