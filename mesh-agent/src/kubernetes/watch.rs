//! Follows one resource: lists its objects, then watches what changes, and
//! lists again where the history has a gap.
//!
//! kube-rs has a watcher of its own. This one reads only the fields that are
//! kept (a cluster's objects carry their whole management history), lets one
//! object that can't be read cost only itself, and says at any time how it is.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use super::{
    Key, Progress, Watched,
    failure::{Failure, Verb},
    request::{Query, Requests},
    wire::{self, EventHead, EventKind},
};
use crate::{model::Backoff, retry};

/// Half of it is waited for sure, the other half by chance.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) };
/// A watch that ends sooner has failed, whatever it says.
const SHORTEST: Duration = Duration::from_secs(1);

/// Between two looks for a resource that isn't installed.
const NOT_INSTALLED: Duration = Duration::from_secs(20);

/// What happened to a resource's objects.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<K> {
    /// It is new, or may have changed.
    Applied(K),
    Deleted(Key),
    /// All objects that there are have been named.
    Listed,
}

/// Which objects of a resource are watched.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Such as `spec.nodeName=n1`.
    pub fields: Option<String>,
    pub labels: Option<String>,
}

/// Follows a resource until told to stop, and tells `sink` of all changes.
/// `known` are the objects that `sink` has already, from an earlier run: those
/// that are gone meanwhile are deleted.
pub async fn watch<K: Watched>(
    client: kube::Client,
    selector: Selector,
    known: HashSet<Key>,
    progress: Arc<Progress>,
    sink: impl FnMut(Change<K>) + Send,
    stop: CancellationToken,
) {
    let requests = Requests::new(client, K::RESOURCE, selector);
    let mut follower = Follower { requests, known, progress, sink, version: None, news: false };
    let mut failures = 0;
    loop {
        follower.news = false;
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = follower.follow() => outcome,
        };
        if follower.news || outcome.is_ok() {
            failures = 0;
        }
        let Some(retry_after) = follower.ended(outcome) else { continue };
        let wait = retry_after.max(wait(failures));
        failures = failures.saturating_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn wait(failures: u32) -> Duration {
    let delay = |random| retry::delay(&BACKOFF, failures, random);
    (delay(u32::MAX) + delay(rand::rng().random())) / 2
}

struct Follower<S> {
    requests: Requests,
    known: HashSet<Key>,
    progress: Arc<Progress>,
    sink: S,
    /// Up to where everything was seen; `None` lists.
    version: Option<String>,
    /// A watch told something since the last failure: lists alone may succeed
    /// for ever with a proxy between that lets no watch through.
    news: bool,
}

impl<S> Follower<S> {
    /// Goes on from where it stands; returns when the API server ends it.
    async fn follow<K: Watched>(&mut self) -> Result<(), Failure>
    where
        S: FnMut(Change<K>) + Send,
    {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => self.list().await?,
        };
        let started = tokio::time::Instant::now();
        let query = Query { version: Some(version), ..Query::default() };
        let mut lines = self.requests.watch(&query).await?;
        self.progress.following();
        while let Some(line) = lines.next().await? {
            self.progress.heard();
            self.take(&line)?;
        }
        if !self.news && started.elapsed() < SHORTEST {
            let resource = K::RESOURCE;
            return Err(Failure::other(format!("the watch of {resource} ended at once")));
        }
        Ok(())
    }

    /// Lists all objects, page by page; gives the version that they are of.
    async fn list<K: Watched>(&mut self) -> Result<String, Failure>
    where
        S: FnMut(Change<K>) + Send,
    {
        let (mut seen, mut refused) = (HashSet::new(), HashSet::new());
        let mut query = Query::default();
        let version = loop {
            let page = self.requests.page(&query).await?;
            let page = wire::page::<K::Wire>(&page).map_err(|error| {
                Failure::other(format!("the list of {} can't be read: {error}", K::RESOURCE))
            })?;
            for item in page.items {
                match item.and_then(wire::read::<K>) {
                    Ok(object) => {
                        seen.insert(object.key());
                        self.apply(object);
                    }
                    Err(unreadable) => {
                        seen.extend(unreadable.key.clone());
                        refused.insert(self.refuse::<K>(unreadable));
                    }
                }
            }
            self.progress.heard();
            match page.next {
                Some(next) => query.next = Some(next),
                None => break page.version,
            }
        };
        self.progress.unreadable_are(&refused);
        let gone: Vec<Key> = self.known.difference(&seen).cloned().collect();
        for key in gone {
            self.delete(key);
        }
        self.version = Some(version.clone());
        self.progress.listed();
        (self.sink)(Change::Listed);
        Ok(version)
    }

    /// Takes in one event.
    fn take<K: Watched>(&mut self, line: &[u8]) -> Result<(), Failure>
    where
        S: FnMut(Change<K>) + Send,
    {
        let head: EventHead = match serde_json::from_slice(line) {
            Ok(head) => head,
            Err(error) => {
                self.refuse::<K>(wire::Unreadable { key: None, why: error.to_string() });
                return Ok(());
            }
        };
        let key = head.key();
        match head.kind {
            EventKind::Error => {
                return Err(Failure::refused(Verb::Watch, &K::RESOURCE, &head.status(), None));
            }
            EventKind::Added | EventKind::Modified => {
                let object = wire::object::<K::Wire>(line).and_then(K::read);
                match object {
                    Ok(object) => self.apply(object),
                    Err(why) => {
                        self.refuse::<K>(wire::Unreadable { key: Some(key), why });
                    }
                }
            }
            EventKind::Deleted => self.delete(key),
            EventKind::Bookmark => {}
        }
        self.news = true;
        if head.kind != EventKind::Bookmark {
            self.progress.report().status.events += 1;
        }
        if let Some(version) = head.version() {
            self.version = Some(version);
        }
        Ok(())
    }

    fn apply<K: Watched>(&mut self, object: K)
    where
        S: FnMut(Change<K>) + Send,
    {
        let key = object.key();
        self.progress.readable(&key.to_string());
        if self.known.insert(key) {
            self.progress.report().status.objects = self.known.len();
        }
        (self.sink)(Change::Applied(object));
    }

    fn delete<K: Watched>(&mut self, key: Key)
    where
        S: FnMut(Change<K>) + Send,
    {
        self.progress.readable(&key.to_string());
        if self.known.remove(&key) {
            self.progress.report().status.objects = self.known.len();
        }
        (self.sink)(Change::Deleted(key));
    }

    /// What was known of it stands. Gives its name.
    fn refuse<K: Watched>(&mut self, unreadable: wire::Unreadable) -> String {
        let object = unreadable.key.map_or_else(|| "one".to_owned(), |key| key.to_string());
        if self.progress.unreadable(object.clone(), unreadable.why.clone()) {
            tracing::warn!(
                resource = %K::RESOURCE,
                object,
                why = unreadable.why,
                "can't read an object: what was known of it stands"
            );
        }
        object
    }

    /// How long to stay away at least; `None` to go on at once.
    fn ended(&mut self, outcome: Result<(), Failure>) -> Option<Duration> {
        let resource = self.requests.resource();
        match outcome {
            // A watch has an end, so that API servers can be balanced.
            Ok(()) => None,
            Err(Failure::Gone) => {
                tracing::info!(%resource, "the API server's history has a gap: listing again");
                self.version = None;
                // Several in a row are no gap but a fault.
                (!self.news).then_some(Duration::ZERO)
            }
            Err(Failure::NotInstalled) => {
                if self.progress.absent() {
                    tracing::info!(%resource, "not installed in this cluster");
                }
                Some(NOT_INSTALLED)
            }
            Err(Failure::Other { text, retry_after }) => {
                if self.progress.failed(text.clone()) {
                    tracing::warn!(%resource, reason = text, "a watch ended: what it said stands");
                } else {
                    tracing::debug!(%resource, reason = text, "a watch can't go on");
                }
                Some(retry_after.unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
