//! The access log: what `mesh-agent tap` shows, as lines of the log, for as long
//! as its level asks for them.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{agent::Agent, tap};
use crate::{
    admin::{TapEvent, TapLine},
    tap::Filter,
};

/// How often the level is looked at, which may change while the agent runs.
const LOOK: Duration = Duration::from_secs(1);

fn is_wanted() -> bool {
    tracing::enabled!(target: "mesh_agent::access", tracing::Level::DEBUG)
}

pub(super) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut lines = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => match (is_wanted(), &lines) {
                (false, _) => lines = None,
                (true, Some(_)) => {}
                (true, None) => match tap::watch(&agent, Filter::default()) {
                    Ok(watched) => lines = Some(watched),
                    Err(error) => tracing::warn!(%error, "no access log"),
                },
            },
            some = next(&mut lines) => some.iter().for_each(write),
        }
    }
}

/// Waits for ever where nothing is watched.
async fn next(
    lines: &mut Option<impl futures_util::Stream<Item = Vec<TapLine>> + Unpin>,
) -> Vec<TapLine> {
    match lines {
        Some(lines) => lines.next().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

fn write(line: &TapLine) {
    match line {
        TapLine::Event(event) => write_event(event),
        TapLine::Lost { lost } => {
            tracing::debug!(target: "mesh_agent::access", lost, "lines were lost: too many at a time");
        }
    }
}

fn write_event(event: &TapEvent) {
    let who = &event.who;
    tracing::debug!(
        target: "mesh_agent::access",
        path = ?event.via,
        service = event.service,
        destination = event.destination,
        instance = event.instance,
        client = event.client,
        pid = who.pid,
        pod = who.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        account = who.pod.as_ref().map(|pod| pod.service_account.as_str()),
        method = event.method,
        uri = event.path,
        status = event.status,
        duration_us = event.duration_us,
        sent = event.bytes_sent,
        received = event.bytes_received,
        rtt_us = event.rtt_us,
        attempts = event.attempts,
        why = event.why,
        outcome = ?event.ended,
    );
}
