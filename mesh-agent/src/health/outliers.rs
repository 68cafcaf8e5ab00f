//! Ejection of a service port's instances: who goes, who comes back.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use mesh_common::ejection;
use tokio::sync::Notify;

use super::{
    instance::{Cause, Health, Probe, Verdict},
    rules::Rules,
};

/// What the instances of a service port share: at most so many of a tier are
/// ejected, and somebody wants to know. Outlives snapshots.
#[derive(Debug, Default)]
pub struct Outliers {
    /// Held while one is ejected, so that the tier is counted after each. Never
    /// waited for: whoever finds it taken leaves it to the next failure.
    gate: Mutex<()>,
    changed: AtomicBool,
    /// Told of every change; shared by all ports.
    watcher: Arc<Notify>,
}

/// What became of an attempt, for the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A connection came about. Decides no probe of HTTP: the response does.
    Connected,
    ConnectFailed,
    /// A response that doesn't blame the instance; for TCP, a connection.
    Answered,
    /// 500 and above, broken off, or too late.
    ResponseFailed,
    /// It says nothing of the instance's health: the client gave up, or the
    /// instance sent the request away unread.
    Unclear,
}

/// A tier at this moment: instances that would be picked if none were ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    pub size: u32,
    pub ejected: u32,
}

impl Outliers {
    pub fn new(watcher: Arc<Notify>) -> Self {
        Self { watcher, ..Self::default() }
    }

    /// Takes in what became of an attempt. `probe` where it was one; `tier` is
    /// asked only when an instance is about to go.
    pub fn report(
        &self,
        health: &Health,
        outcome: Outcome,
        probe: Option<&Probe>,
        rules: &Rules,
        (now, random): (u64, u32),
        tier: impl FnOnce() -> Tier,
    ) {
        if let Some(probe) = probe {
            let decided = match outcome {
                Outcome::Connected => false,
                Outcome::Answered => health.probe_succeeded(probe, now),
                Outcome::ConnectFailed | Outcome::ResponseFailed | Outcome::Unclear => {
                    health.probe_failed(probe, rules, now, random)
                }
            };
            if decided {
                self.note_change();
            }
            return;
        }
        let (cause, limit) = match outcome {
            Outcome::Connected => return health.connected(),
            Outcome::Answered => return health.forget_failures(),
            Outcome::Unclear => return,
            Outcome::ConnectFailed => (Cause::Connects, rules.consecutive.connect),
            Outcome::ResponseFailed => (Cause::Responses, rules.consecutive.responses),
        };
        if health.failed(cause) >= limit && rules.ejection {
            self.eject(health, cause, rules, (now, random), tier);
        }
    }

    fn eject(
        &self,
        health: &Health,
        cause: Cause,
        rules: &Rules,
        (now, random): (u64, u32),
        tier: impl FnOnce() -> Tier,
    ) {
        let Ok(_alone) = self.gate.try_lock() else { return };
        if health.is_ejected() {
            return;
        }
        let Tier { size, ejected } = tier();
        if ejection::may_eject(size, ejected, u32::from(rules.max_ejected.0)) {
            health.eject(cause, rules, now, random);
            self.note_change();
        }
    }

    /// Takes the right to probe an instance whose exile is over. Not where its
    /// health check fails: then the check has to find it well first.
    pub fn claim(
        &self,
        health: &Health,
        rules: &Rules,
        (now, random): (u64, u32),
    ) -> Option<Probe> {
        if !health.is_ejected() || health.verdict() == Verdict::Unhealthy {
            return None;
        }
        let before = health.ejections();
        let probe = health.claim(rules, now, random);
        if health.ejections() != before {
            self.note_change();
        }
        probe
    }

    /// Takes in one answer, or failure, of an active check, and the verdict
    /// that it leads to. A check after an exile is the probe that decides.
    pub fn checked(
        &self,
        health: &Health,
        passed: bool,
        verdict: Verdict,
        rules: &Rules,
        (now, random): (u64, u32),
    ) {
        if !passed {
            health.count_failed_check();
        }
        if health.set_verdict(verdict, now) {
            self.note_change();
        }
        // The kernel's exiles end by the kernel's own probe.
        if health.cause().is_some_and(Cause::is_of_the_kernel) {
            return;
        }
        if let Some(probe) = self.claim(health, rules, (now, random)) {
            let outcome = if passed { Outcome::Answered } else { Outcome::ResponseFailed };
            self.report(health, outcome, Some(&probe), rules, (now, random), Tier::default);
        }
    }

    /// The instance isn't checked any more: it counts as healthy.
    pub fn forget_check(&self, health: &Health, now: u64) {
        if health.set_verdict(Verdict::Unknown, now) {
            self.note_change();
        }
    }

    /// Something about an instance of this port is different now.
    pub fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
        self.watcher.notify_one();
    }

    /// Whether something changed since this was asked last.
    pub fn take_change(&self) -> bool {
        self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::Acquire)
    }
}
