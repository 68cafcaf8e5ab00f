//! The kernel side as the app holds it: everything that a reload or a question
//! may need, each behind its own lock. No lock is held across an await.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;

use crate::{
    datapath::{
        self, CapturedPods, ConcurrencyLimits, Events, Flows, Heartbeat, Hooks, Neighbours, Object,
        Originals, Pins, Tables,
    },
    model::Settings,
};

pub(super) struct Kernel {
    pub pins: Pins,
    object: Mutex<Object>,
    tables: Mutex<Tables>,
    flows: Mutex<Flows>,
    concurrency: Mutex<ConcurrencyLimits>,
    captured: Mutex<CapturedPods>,
    neighbours: Mutex<Neighbours>,
    hooks: Mutex<Hooks>,
    /// Why answers aren't timed, where they should be.
    untimed: ArcSwapOption<String>,
    /// Milliseconds from `started` to the last heartbeat, plus one; 0 for none.
    beat: AtomicU64,
    started: Instant,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("pins", &self.pins).finish_non_exhaustive()
    }
}

/// What the start hands to the tasks that will own it.
pub(super) struct Feeds {
    pub heartbeat: Heartbeat,
    pub events: Events,
    pub log: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Kernel {
    /// Loads the programs and takes over the maps. Nothing is attached yet.
    pub async fn start(settings: &Settings) -> anyhow::Result<(Self, Arc<Originals>, Feeds)> {
        let pins = Pins::open(&settings.capture.pins)?;
        let mut object = Object::load(Some(&pins))?;
        tracing::info!(adopted = object.adopted, "kernel programs loaded");
        let log = Box::pin(datapath::forward_kernel_log(&mut object).await?);
        let (mut tables, originals, mut heartbeat, events) = Tables::open(&mut object)?;
        let flows = Flows::open(&mut object)?;
        let concurrency = ConcurrencyLimits::open(&mut object)?;
        let captured = CapturedPods::open(&mut object)?;
        let neighbours = Neighbours::open(&mut object)?;
        // An agent that was killed may have left a fresh one.
        heartbeat.stop()?;
        tables.configure(settings, log::max_level())?;
        let kernel = Self {
            pins,
            object: Mutex::new(object),
            tables: Mutex::new(tables),
            flows: Mutex::new(flows),
            concurrency: Mutex::new(concurrency),
            captured: Mutex::new(captured),
            neighbours: Mutex::new(neighbours),
            hooks: Mutex::default(),
            untimed: ArcSwapOption::empty(),
            beat: AtomicU64::new(0),
            started: Instant::now(),
        };
        Ok((kernel, Arc::new(originals), Feeds { heartbeat, events, log }))
    }

    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn concurrency(&self) -> MutexGuard<'_, ConcurrencyLimits> {
        self.concurrency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        self.neighbours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn captured(&self) -> MutexGuard<'_, CapturedPods> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due in the maps, unless somebody is at them: the heartbeat
    /// calls this and must not wait for a large change.
    pub fn tend(&self, now: Instant, tapped: bool) {
        if let Ok(mut tables) = self.tables.try_lock() {
            if let Err(error) = tables.report_connections(tapped) {
                tracing::error!(
                    error = format!("{error:#}"),
                    "telling the hooks whether connections are watched failed"
                );
            }
            tables.reap(now);
            let timing = tables.times_answers();
            drop(tables);
            self.time_answers(timing);
        }
    }

    fn time_answers(&self, timing: bool) {
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        match self.hooks().time_answers(&mut object, &self.pins, timing) {
            Ok(changed) => {
                self.untimed.store(None);
                if changed {
                    tracing::info!(timing, "programs that time answers: attached or detached");
                }
            }
            // Tried again with every heartbeat.
            Err(error) => {
                let problem = untimed(&format!("{error:#}"));
                if self.untimed.swap(Some(Arc::new(problem.clone()))).is_none() {
                    tracing::error!("{problem}");
                }
            }
        }
    }

    /// What doesn't work as it should.
    pub fn degraded(&self) -> Option<String> {
        self.untimed.load().as_deref().cloned()
    }

    pub fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches to the cgroups of `settings` and to that of all pods, and to no
    /// others.
    pub fn attach(&self, settings: &Settings, pods: Option<&Path>) -> anyhow::Result<()> {
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let timing = self.tables().times_answers();
        // No hook may ever see a pod while it isn't told that pods are selected.
        if pods.is_some() {
            self.tables().select(pods)?;
        }
        let cgroups = datapath::hooked(&settings.capture.cgroups, pods);
        *self.hooks() = Hooks::attach(&mut object, &self.pins, &cgroups, timing)?;
        if pods.is_none() {
            self.tables().select(None)?;
        }
        Ok(())
    }

    pub fn note_beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.beat.store(now + 1, Ordering::Relaxed);
    }

    /// How long ago the heartbeat was written.
    pub fn beat_age_ms(&self) -> Option<u64> {
        let beat = self.beat.load(Ordering::Relaxed).checked_sub(1)?;
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(now.saturating_sub(beat))
    }
}

/// What follows where answers can't be timed.
fn untimed(error: &str) -> String {
    format!(
        "attaching or detaching the programs that time answers failed ({error}): on the kernel \
         path leastResponseTime goes by handshakes, adaptiveConcurrency sets no new limits, and \
         of a connection that had an answer before no missing answer is seen; tried again with \
         every heartbeat"
    )
}
