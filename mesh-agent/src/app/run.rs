//! From start to stop.
//!
//! The order of a start is what makes it seamless: the maps are brought up to
//! date and the listeners are open before the heartbeat begins and the hooks
//! are attached, so nothing is ever sent to an agent that isn't there yet. A
//! stop goes the other way round: first the hooks are told to leave us out,
//! then what is under way may end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    access, adaptive,
    agent::Agent,
    descriptors, discovery, health,
    kubernetes::{self, Kubernetes},
    namespaces, pods, pulse, reload, removal, resident, watch,
};
use crate::{
    admin::{self, AdminSocket, AgentState, Control},
    config, datapath,
    model::Settings,
    telemetry::Logs,
};

/// For the agent's own tasks to end, once traffic has.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// `mesh-agent run`
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub config: PathBuf,
    /// Without, nothing is captured: the agent listens on the services'
    /// addresses themselves.
    pub ebpf: bool,
    pub logs: Logs,
}

/// Runs the agent until SIGTERM or SIGINT. A second signal ends it at once.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    let settings = config::load(&options.config)?;
    if options.ebpf {
        datapath::prepare(&settings.capture.pins, &settings.capture.cgroups);
        require(&settings)?;
    }
    descriptors::raise_limit();
    // Control only: traffic has its own threads. Two, so that a slow scrape
    // never delays the heartbeat.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mesh-control")
        .enable_all()
        .build()
        .context("starting the control runtime")?
        .block_on(serve(options, settings))
}

/// Refuses to start where the kernel or our rights don't suffice, with all
/// that is missing in one message.
fn require(settings: &Settings) -> anyhow::Result<()> {
    let capture = &settings.capture;
    let missing: Vec<_> = datapath::required(&capture.pins, &capture.cgroups)
        .into_iter()
        .filter(|finding| finding.state == datapath::State::Missing)
        .map(|finding| format!("\n  {}: {}; {}", finding.name, finding.detail, finding.todo))
        .collect();
    anyhow::ensure!(
        missing.is_empty(),
        "this machine can't run the agent (`mesh-agent preflight` shows all checks):{}",
        missing.concat()
    );
    Ok(())
}

async fn serve(options: RunOptions, settings: Settings) -> anyhow::Result<()> {
    // Both refuse a second agent, before anything is touched.
    let socket = AdminSocket::bind(&settings.admin.socket)?;
    let http = match settings.admin.http {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("admin.http: can't listen on {address}"))?,
        ),
        None => None,
    };
    let checker = health::checker(&settings, options.ebpf)?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let cluster = Kubernetes::start(&settings, &mut tasks, &stop).await?;
    let (agent, feeds) = Agent::start(options, settings, cluster).await?;
    let mut log = None;
    tasks.spawn(watch::config(Arc::clone(&agent), stop.clone()));
    tasks.spawn(discovery::run(Arc::clone(&agent), stop.clone()));
    tasks.spawn(kubernetes::run(Arc::clone(&agent), stop.clone()));
    tasks.spawn(removal::run(Arc::clone(&agent), stop.clone()));
    tasks.spawn(adaptive::run(Arc::clone(&agent), stop.clone()));
    tasks.spawn(access::run(Arc::clone(&agent), stop.clone()));
    tasks.spawn(health::run(Arc::clone(&agent), checker, stop.clone()));
    if let Some(mut feeds) = feeds {
        let tracker = namespaces::Tracker::new(Arc::clone(&agent));
        let mut selector = pods::Selector::new(Arc::clone(&agent));
        // Before the hooks are attached, so that a start is complete.
        if let Some(selector) = &mut selector {
            selector.first_look();
        }
        let tracker = tracker.first_scan().await;
        if let Some(mut selector) = selector {
            selector.settle();
            tasks.spawn(selector.run(stop.clone()));
        }
        let (missing, found) = tokio::sync::mpsc::channel(256);
        tasks.spawn(tracker.run(found, stop.clone()));
        log = Some(tasks.spawn(feeds.log));
        // The listeners are open: from here on the hooks may count on us.
        feeds.heartbeat.beat()?;
        agent.note_beat();
        agent.attach_hooks()?;
        tasks.spawn(pulse::run(
            feeds.heartbeat,
            feeds.events,
            missing,
            Arc::clone(&agent),
            stop.clone(),
        ));
    }
    agent.set_state(AgentState::Serving);
    // Commands that came earlier wait in the socket's queue: who gets an answer
    // knows that the hooks are attached.
    let control: Arc<dyn Control> = Arc::clone(&agent) as Arc<dyn Control>;
    tasks.spawn(admin::serve_socket(socket, Arc::clone(&control), stop.clone()));
    if let Some(listener) = http {
        tasks.spawn(admin::serve_http(listener, control, stop.clone()));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "serving");
    tasks.spawn({
        let stop = stop.clone();
        async move {
            // Where the agent stops first, nothing needs to be given back.
            stop.run_until_cancelled(resident::give_back_after_start()).await;
        }
    });

    until_stopped(&agent).await?;
    // The pulse sees it and tells the hooks to leave this agent out.
    agent.set_state(AgentState::Draining);
    let deadline = agent.settings().limits.drain;
    tokio::select! {
        cut = agent.drain(deadline) => tracing::info!(cut, "drained"),
        () = second_signal() => tracing::warn!("a second signal: not waiting for connections"),
    }
    stop.cancel();
    if let Some(log) = log {
        // It waits for the kernel and knows no end.
        log.abort();
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, ended).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "some tasks didn't end in time");
    }
    Ok(())
}

/// Waits for the signal that ends the agent; SIGHUP reloads meanwhile.
async fn until_stopped(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => reload::and_log(agent, "SIGHUP").await,
        }
    }
}

async fn second_signal() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    } else {
        std::future::pending::<()>().await;
    }
}
