//! How each watch is, to show.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

/// The API server says something at least once a minute, if only a bookmark.
/// After this, a connection counts as dead.
pub(super) const SILENCE: Duration = Duration::from_secs(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// Its objects haven't been listed yet.
    Waiting,
    /// It follows.
    Synced,
    /// It doesn't follow any more, or not yet: what was known stands.
    Stale,
    /// It can't be followed, and nothing is known.
    Failing,
    /// The cluster doesn't have this resource, which it needn't.
    NotInstalled,
}

/// A watch and what stands of it.
#[derive(Clone, Debug)]
pub struct WatchStatus {
    /// Such as `endpointslices.discovery.k8s.io`.
    pub resource: String,
    pub state: WatchState,
    pub objects: usize,
    /// When it was last told anything, even that nothing is new.
    pub heard: Option<Instant>,
    /// What went wrong last, and when.
    pub last_error: Option<(Instant, String)>,
    pub events: u64,
    /// Times that all objects were listed.
    pub lists: u64,
    pub errors: u64,
    /// Objects that can't be read: what was known of them stands.
    pub unreadable: Vec<(String, String)>,
}

/// What a watch's task reports.
#[derive(Debug)]
pub struct Progress {
    report: Mutex<Report>,
    /// Becomes true with the first outcome, good or bad.
    asked: watch::Sender<bool>,
}

#[derive(Debug)]
pub(super) struct Report {
    pub status: WatchStatus,
    /// Something is known, from this run or an earlier one.
    pub known: bool,
    following: bool,
    /// The API server doesn't know the resource.
    absent: bool,
}

impl Progress {
    /// `objects` are those of an earlier run, where there was one.
    pub fn new(resource: String, objects: Option<usize>) -> Self {
        let status = WatchStatus {
            resource,
            state: WatchState::Waiting,
            objects: objects.unwrap_or_default(),
            heard: None,
            last_error: None,
            events: 0,
            lists: 0,
            errors: 0,
            unreadable: Vec::new(),
        };
        let report = Report { status, known: objects.is_some(), following: false, absent: false };
        Self { report: Mutex::new(report), asked: watch::Sender::new(false) }
    }

    pub fn status(&self) -> WatchStatus {
        let report = self.report();
        let fresh = report.status.heard.is_some_and(|heard| heard.elapsed() < SILENCE);
        let failed = report.status.last_error.is_some();
        let state = match (report.following && fresh, report.known) {
            (true, _) => WatchState::Synced,
            _ if report.absent => WatchState::NotInstalled,
            (false, true) => WatchState::Stale,
            (false, false) if failed => WatchState::Failing,
            (false, false) => WatchState::Waiting,
        };
        WatchStatus { state, ..report.status.clone() }
    }

    /// Whether anything is known of its objects.
    pub fn is_known(&self) -> bool {
        self.report().known
    }

    /// The cluster doesn't have this resource. `true` where that is news.
    pub(super) fn absent(&self) -> bool {
        let mut report = self.report();
        report.following = false;
        report.status.last_error = None;
        let known = std::mem::replace(&mut report.absent, true);
        drop(report);
        self.asked.send_replace(true);
        !known
    }

    /// Until its objects were listed, or that failed.
    pub async fn first_outcome(&self) {
        // It can't fail: we hold the sender.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known is from an earlier run, and was kept at this time.
    pub(super) fn remembered(&self, written: Option<Instant>) {
        let mut report = self.report();
        if report.known {
            report.status.heard = written;
        }
    }

    pub(super) fn heard(&self) {
        self.report().status.heard = Some(Instant::now());
    }

    pub(super) fn listed(&self) {
        let mut report = self.report();
        report.status.lists += 1;
        report.known = true;
        report.absent = false;
        report.following = true;
        report.status.heard = Some(Instant::now());
        drop(report);
        self.asked.send_replace(true);
    }

    pub(super) fn following(&self) {
        let mut report = self.report();
        report.following = true;
        report.status.heard = Some(Instant::now());
    }

    /// `true` where it followed until now.
    pub(super) fn failed(&self, text: String) -> bool {
        let mut report = self.report();
        report.status.errors += 1;
        report.status.last_error = Some((Instant::now(), text));
        let followed = std::mem::replace(&mut report.following, false);
        drop(report);
        self.asked.send_replace(true);
        followed
    }

    /// An object can't be read. `true` where that is news.
    pub(super) fn unreadable(&self, object: String, why: String) -> bool {
        /// To show; more of them are only counted.
        const MOST: usize = 100;
        let mut report = self.report();
        report.status.errors += 1;
        report.status.last_error = Some((Instant::now(), format!("{object}: {why}")));
        let unreadable = &mut report.status.unreadable;
        if let Some((_, known)) = unreadable.iter_mut().find(|(other, _)| *other == object) {
            return std::mem::replace(known, why.clone()) != why;
        }
        let more = unreadable.len() < MOST;
        if more {
            unreadable.push((object, why));
        }
        more
    }

    /// All has been listed, and of that these can't be read: others are gone.
    pub(super) fn unreadable_are(&self, objects: &HashSet<String>) {
        self.report().status.unreadable.retain(|(object, _)| objects.contains(object));
    }

    /// It can be read (again), or is gone.
    pub(super) fn readable(&self, object: &str) {
        let mut report = self.report();
        if !report.status.unreadable.is_empty() {
            report.status.unreadable.retain(|(other, _)| other != object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_once_and_until_it_is_gone() {
        let progress = Progress::new("slices".into(), None);
        let why = || "garbage".to_owned();
        assert!(progress.unreadable("a/b".into(), why()));
        assert!(!progress.unreadable("a/b".into(), why()));
        assert!(progress.unreadable("a/b".into(), "other garbage".into()));
        // Of very many only some are told.
        let told = (0..500).filter(|n| progress.unreadable(format!("a/{n}"), why())).count();
        assert_eq!(told, 99);
        assert!(!progress.unreadable("a/400".into(), why()));
        progress.unreadable_are(&HashSet::from(["a/3".to_owned(), "a/4".to_owned()]));
        let left: Vec<_> = progress.status().unreadable.into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["a/3", "a/4"]);
    }
}
