//! The heartbeat, and with it the reports of the hooks: one timer for both, so
//! that an idle node wakes up once per period and no more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{agent::Agent, namespaces::Missing, tap};
use crate::{
    admin::AgentState,
    datapath::{Event, Events, Heartbeat, Record, ejected_for},
    health::{Cause, Health},
    net,
    registry::ServicePort,
    tap::Ended,
};

/// Reports taken in at one go: a flood must not hold up the heartbeat.
const BATCH: usize = 8192;

pub(super) async fn run(
    mut heartbeat: Heartbeat,
    mut events: Events,
    missing: mpsc::Sender<Missing>,
    agent: Arc<Agent>,
    stop: CancellationToken,
) {
    let mut tick = interval(Heartbeat::PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut state = agent.watch_state();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // A stop tells the hooks at once, not with the next tick.
            _ = state.changed() => {}
            _ = tick.tick() => {}
            ready = events.wait() => {
                if let Err(error) = ready {
                    tracing::error!(%error, "waiting for the hooks' reports failed");
                    tick.tick().await;
                }
            }
        }
        let draining = *state.borrow_and_update() == AgentState::Draining;
        let result = if draining { heartbeat.stop() } else { heartbeat.beat() };
        match result {
            Ok(()) => agent.note_beat(),
            Err(error) => {
                tracing::error!(%error, "writing the heartbeat failed: the hooks leave this agent out");
            }
        }
        for _ in 0..BATCH {
            let Some(event) = events.next() else { break };
            take_in(event, &missing, &agent);
        }
        if let Some(kernel) = agent.kernel() {
            kernel.tend(Instant::now(), agent.taps.is_on());
        }
    }
}

fn take_in(event: Event, missing: &mpsc::Sender<Missing>, agent: &Agent) {
    match event {
        Event::NoListener { pid, netns } => {
            // Full: the same namespaces are reported again with the next connect.
            let _ = missing.try_send(Missing { pid, cookie: netns });
        }
        Event::Opened(record) => tap::report(agent, &record, None),
        Event::Refused(record, why) => {
            tap::report(agent, &record, Some((Ended::Refused, Some(why))));
        }
        Event::Closed(record) => {
            let ended = if record.reset == 0 { Ended::Closed } else { Ended::Reset };
            tap::report(agent, &record, Some((ended, None)));
        }
        Event::Failed(record) => {
            tap::report(agent, &record, Some((Ended::Failed, Some("connect-failed"))));
        }
        Event::Ejected(record) => {
            let why = ejected_for(record.reason);
            log_health(agent, &record, Some(why), "ejected on the kernel path");
            let port = note_health(agent, &record, |health, now| {
                health.set_kernel_ejected(now.saturating_add(record.duration_ns), why);
            });
            if let Some(port) = port {
                // Its tier counts on it again, for the probe.
                let exile = Duration::from_nanos(record.duration_ns) + Duration::from_millis(1);
                tokio::spawn(async move {
                    tokio::time::sleep(exile).await;
                    port.outliers.note_change();
                });
            }
        }
        Event::Returned(record) => {
            log_health(agent, &record, None, "back in service on the kernel path");
            let _ = note_health(agent, &record, Health::set_returned);
        }
    }
}

/// What the hooks found out of a backend's health, for all to see. They act on
/// it themselves.
fn note_health(
    agent: &Agent,
    record: &Record,
    note: impl FnOnce(&Health, u64),
) -> Option<Arc<ServicePort>> {
    let key = agent.kernel()?.tables().port_of(record.service)?;
    let address = record.backend_address.to_socket_addr();
    let snapshot = agent.snapshots.load();
    let port = snapshot.ports().find(|port| port.key() == key)?;
    let endpoint = port.endpoints.iter().find(|endpoint| endpoint.address == address)?;
    note(&endpoint.health, net::monotonic_ns());
    port.outliers.note_change();
    Some(Arc::clone(port))
}

fn log_health(agent: &Agent, record: &Record, why: Option<Cause>, what: &'static str) {
    let service = agent.kernel().and_then(|kernel| kernel.tables().port_of(record.service));
    tracing::info!(
        service = service.map(|(name, ..)| name.to_string()),
        instance = %record.backend_address.to_socket_addr(),
        cause = why.map(Cause::text),
        exile_ms = record.duration_ns / 1_000_000,
        "{what}"
    );
}
