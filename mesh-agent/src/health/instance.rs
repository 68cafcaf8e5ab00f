//! The health of one instance.

use std::{
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use mesh_common::ejection;

use super::rules::Rules;

/// What is known of an instance's health, from traffic and from checks. Shared
/// by all snapshots that name the instance; all times are [monotonic]
/// nanoseconds.
///
/// [monotonic]: crate::net::monotonic_ns
#[derive(Debug, Default)]
pub struct Health {
    /// 0: in service. Else the end of the exile, and in its lowest bit whether
    /// a probe is under way, whose patience ends then.
    exile: AtomicU64,
    /// Exiles in a row, which make the next one longer.
    times: AtomicU32,
    /// 0: never.
    returned_at: AtomicU64,
    /// Failures in a row.
    connects: AtomicU32,
    responses: AtomicU32,
    /// Why it was ejected last: a [`Cause`].
    cause: AtomicU8,
    /// What active checks say: a [`Verdict`].
    verdict: AtomicU8,
    /// Slowest recent handshake, µs; 0 before the first.
    handshake_us: AtomicU32,
    ejections: AtomicU64,
    checks_failed: AtomicU64,
}

/// What the active check says of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Not asked yet, or not to be asked: as good as healthy.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

/// Why an instance was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Connects that failed, in a row.
    Connects,
    /// Responses that failed, in a row.
    Responses,
    /// The probe after an exile failed.
    Probe,
    /// The hooks did it, on the kernel path: connects that failed, in a row.
    KernelConnects,
    /// Or connections that broke before an answer.
    KernelResets,
    /// Or clients that waited for an answer and gave up.
    KernelSilence,
}

/// All of it in one word, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    InService,
    /// The active check fails.
    Unhealthy,
    /// In exile until then.
    Ejected {
        until: u64,
    },
    /// The exile is over; the next request or check decides.
    AwaitsProbe,
    /// One request or check is under way that decides.
    Probing,
}

/// The one request, connection or check that may reach an instance after its
/// exile. Its outcome decides; where none is reported, it counts as failed
/// when its time is over.
#[derive(Debug)]
pub struct Probe(u64);

/// In the word's lowest bit: a probe is under way.
const PROBING: u64 = 1;

impl Health {
    /// Whether requests may go there: neither ejected nor found unhealthy.
    pub fn is_usable(&self) -> bool {
        !self.is_ejected() && self.verdict() != Verdict::Unhealthy
    }

    /// Whether its tier has to do without it, and the kernel's schedule: what
    /// the hooks ejected stays there, because they probe it themselves.
    pub fn is_failing(&self) -> bool {
        !self.is_usable() && !self.cause().is_some_and(Cause::is_of_the_kernel)
            || self.verdict() == Verdict::Unhealthy
    }

    /// Whether the hooks have sent it into an exile that isn't over yet.
    pub fn is_in_kernel_exile(&self, now: u64) -> bool {
        self.cause().is_some_and(Cause::is_of_the_kernel)
            && self.ejected_until().is_some_and(|until| now < until)
    }

    /// From the first moment of an exile until a probe succeeds.
    pub fn is_ejected(&self) -> bool {
        self.exile.load(Ordering::Relaxed) != 0
    }

    /// When the exile ends, or the probe's time; `None` in service.
    pub fn ejected_until(&self) -> Option<u64> {
        match self.exile.load(Ordering::Relaxed) {
            0 => None,
            word => Some(word & !PROBING),
        }
    }

    /// When it came back last: from there its slow start counts.
    pub fn returned_at(&self) -> Option<u64> {
        match self.returned_at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(at),
        }
    }

    pub fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            1 => Verdict::Healthy,
            2 => Verdict::Unhealthy,
            _ => Verdict::Unknown,
        }
    }

    /// Why it is ejected; `None` in service.
    pub fn cause(&self) -> Option<Cause> {
        const ALL: [Cause; 6] = [
            Cause::Connects,
            Cause::Responses,
            Cause::Probe,
            Cause::KernelConnects,
            Cause::KernelResets,
            Cause::KernelSilence,
        ];
        self.ejected_until()?;
        ALL.into_iter().find(|&cause| cause as u8 == self.cause.load(Ordering::Relaxed))
    }

    /// Ejection comes before the check's verdict: it says until when.
    pub fn state(&self, now: u64) -> State {
        match self.exile.load(Ordering::Relaxed) {
            0 if self.verdict() == Verdict::Unhealthy => State::Unhealthy,
            0 => State::InService,
            word if word & PROBING != 0 => State::Probing,
            until if now < until => State::Ejected { until },
            _ => State::AwaitsProbe,
        }
    }

    /// Why no request goes there, in words; `None` where they do.
    pub fn reason(&self, now: u64) -> Option<String> {
        let why = self.cause().map_or("", Cause::text);
        match self.state(now) {
            State::InService => None,
            State::Unhealthy => Some("its health check fails".to_owned()),
            State::Ejected { until } => {
                let left = (until - now) as f64 / 1e9;
                Some(format!("ejected for another {left:.1} s: {why}"))
            }
            State::AwaitsProbe => Some(format!("ejected: {why}; one probe will decide")),
            State::Probing => Some(format!("ejected: {why}; a probe is under way")),
        }
    }

    /// Takes in how long connecting to it took.
    pub fn note_handshake(&self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let before = self.handshake_us.load(Ordering::Relaxed);
        self.handshake_us.store(took.max(before - before / 8), Ordering::Relaxed);
    }

    /// The slowest recent handshake with it; `None` before the first.
    pub fn handshake(&self) -> Option<Duration> {
        match self.handshake_us.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us.into())),
        }
    }

    /// Times that it was ejected since the agent started.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Active checks that failed since the agent started.
    pub fn checks_failed(&self) -> u64 {
        self.checks_failed.load(Ordering::Relaxed)
    }

    /// The hooks ejected it, until then.
    pub fn set_kernel_ejected(&self, until: u64, cause: Cause) {
        self.banish(until, cause);
    }

    /// It serves again: the hooks' probe succeeded, or ejection was turned off.
    pub fn set_returned(&self, now: u64) {
        if self.exile.swap(0, Ordering::Relaxed) != 0 {
            self.returned_at.store(now.max(1), Ordering::Relaxed);
            self.forget_failures();
        }
    }

    /// Takes the right to send the one probe, once the exile is over. A probe
    /// that was lost counts as one that failed: then a longer exile begins.
    pub(super) fn claim(&self, rules: &Rules, now: u64, random: u32) -> Option<Probe> {
        let word = self.exile.load(Ordering::Relaxed);
        if ejection::access(word & !PROBING, now) != ejection::Access::Probe {
            return None;
        }
        if word & PROBING != 0 {
            self.probe_failed(&Probe(word), rules, now, random);
            return None;
        }
        // As long as the exile that it ends: a slow instance gets its chance.
        let times = self.times.load(Ordering::Relaxed).saturating_sub(1);
        let patience = ejection::nominal(rules.base, rules.max, times);
        let lease = ejection::lease(now, patience) | PROBING;
        let claimed =
            self.exile.compare_exchange(word, lease, Ordering::Relaxed, Ordering::Relaxed);
        claimed.ok().map(|_| Probe(lease))
    }

    /// The probe succeeded; `false` where it came too late.
    pub(super) fn probe_succeeded(&self, probe: &Probe, now: u64) -> bool {
        let ended = self.exile.compare_exchange(probe.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        if ended.is_ok() {
            self.returned_at.store(now.max(1), Ordering::Relaxed);
            self.forget_failures();
        }
        ended.is_ok()
    }

    /// The probe failed: back into an exile twice as long.
    pub(super) fn probe_failed(&self, probe: &Probe, rules: &Rules, now: u64, random: u32) -> bool {
        let times = self.times.load(Ordering::Relaxed);
        let until = end(now, ejection::exile(rules.base, rules.max, times, random));
        let again =
            self.exile.compare_exchange(probe.0, until, Ordering::Relaxed, Ordering::Relaxed);
        if again.is_ok() {
            self.times.store(ejection::more(rules.base, rules.max, times), Ordering::Relaxed);
            self.cause.store(Cause::Probe as u8, Ordering::Relaxed);
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
        again.is_ok()
    }

    /// Sends it into exile.
    pub(super) fn eject(&self, cause: Cause, rules: &Rules, now: u64, random: u32) {
        let good = now.saturating_sub(self.returned_at.load(Ordering::Relaxed));
        let times = self.times.load(Ordering::Relaxed);
        let times = ejection::forgiven(rules.base, rules.max, times, good);
        self.times.store(ejection::more(rules.base, rules.max, times), Ordering::Relaxed);
        self.banish(end(now, ejection::exile(rules.base, rules.max, times, random)), cause);
        self.forget_failures();
    }

    fn banish(&self, until: u64, cause: Cause) {
        self.cause.store(cause as u8, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.exile.store(until.max(2) & !PROBING, Ordering::Relaxed);
    }

    /// Counts a failure; how many there were in a row.
    pub(super) fn failed(&self, cause: Cause) -> u32 {
        let counter = if cause == Cause::Connects { &self.connects } else { &self.responses };
        counter.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// A connect that succeeded says nothing of the responses.
    pub(super) fn connected(&self) {
        reset(&self.connects);
    }

    pub(super) fn forget_failures(&self) {
        reset(&self.connects);
        reset(&self.responses);
    }

    /// What the active check says; `true` where that is a change for traffic.
    pub(super) fn set_verdict(&self, verdict: Verdict, now: u64) -> bool {
        let before = self.verdict();
        self.verdict.store(verdict as u8, Ordering::Relaxed);
        let was_bad = before == Verdict::Unhealthy;
        let is_bad = verdict == Verdict::Unhealthy;
        if was_bad && !is_bad {
            self.returned_at.store(now.max(1), Ordering::Relaxed);
        }
        was_bad != is_bad
    }

    pub(super) fn count_failed_check(&self) {
        self.checks_failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Cause {
    /// Whether the hooks did it, and probe it themselves.
    pub const fn is_of_the_kernel(self) -> bool {
        matches!(self, Self::KernelConnects | Self::KernelResets | Self::KernelSilence)
    }

    /// For people and for metrics.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Connects => "connects failed in a row",
            Self::Responses => "responses failed in a row",
            Self::Probe => "the probe after its exile failed",
            Self::KernelConnects => "connects failed in a row, on the kernel path",
            Self::KernelResets => {
                "connections broke before an answer, in a row, on the kernel path"
            }
            Self::KernelSilence => {
                "clients got no answer and gave up, in a row, on the kernel path"
            }
        }
    }
}

/// The word of an exile.
fn end(now: u64, exile: u64) -> u64 {
    now.saturating_add(exile).max(2) & !PROBING
}

/// Writes only where there is something to write: this is done with every
/// response, on memory that all workers share.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
