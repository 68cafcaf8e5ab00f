//! Watches: changes as they come, one JSON object a line.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, sleep_until},
};

use super::{
    answer::shown,
    api::{Api, Interruption},
    failure::Failure,
    request::{Query, Target, View},
    select::Selector,
    store::Event,
};

/// Lines of a watch on their way to the client; an error breaks the connection.
pub type Lines = mpsc::Receiver<io::Result<Bytes>>;

/// As a real server where the client doesn't say how long.
const LONGEST: u64 = 1800;

/// One client's watch.
struct Watch {
    api: Arc<Api>,
    target: Target,
    selector: Selector,
    view: View,
    bookmarks: bool,
    /// The client has seen everything up to here.
    revision: u64,
    lines: mpsc::Sender<io::Result<Bytes>>,
}

/// Why a watch ends.
enum End {
    /// The client has gone, or its time is over.
    Quiet,
    /// With an error in the stream.
    Told(Failure),
    Broken,
}

/// Begins a watch.
pub fn start(
    api: &Arc<Api>,
    target: Target,
    selector: Selector,
    query: &Query,
    view: View,
) -> Result<Lines, Failure> {
    let asked = query.number("resourceVersion")?.unwrap_or(0);
    let initial = query.is_set("sendInitialEvents");
    if initial && query.get("resourceVersionMatch") != "NotOlderThan" {
        return Err(Failure::invalid(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    let bookmarks = query.is_set("allowWatchBookmarks");
    if initial && !bookmarks {
        return Err(Failure::invalid("sendInitialEvents requires allowWatchBookmarks"));
    }
    let (lines, receiver) = mpsc::channel(64);
    let api = Arc::clone(api);
    let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(LONGEST).min(LONGEST));
    let watch = Watch { api, target, selector, view, bookmarks, revision: asked, lines };
    let first = if initial { First::ListAndBookmark } else { First::of(asked) };
    tokio::spawn(watch.run(first, until));
    Ok(receiver)
}

/// What comes before the changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    List,
    ListAndBookmark,
}

impl First {
    fn of(revision: u64) -> Self {
        if revision == 0 { Self::List } else { Self::Nothing }
    }
}

impl Watch {
    async fn run(mut self, first: First, until: Instant) {
        let end = match self.begin(first).await {
            Ok(()) => self.follow(until).await,
            Err(end) => end,
        };
        match end {
            End::Quiet => {}
            End::Told(failure) => {
                let _ = self.send("ERROR", &failure.to_json()).await;
            }
            End::Broken => {
                let broken = io::Error::other("the tests cut this watch");
                let _ = self.lines.send(Err(broken)).await;
            }
        }
    }

    async fn begin(&mut self, first: First) -> Result<(), End> {
        if first == First::Nothing {
            return Ok(());
        }
        let listed = self.api.store.list(self.target.resource, self.target.namespace.as_deref());
        for object in listed.objects.iter().filter(|object| self.selector.matches(object)) {
            self.send("ADDED", &shown(object, self.view)).await?;
        }
        self.revision = listed.revision;
        match first {
            First::ListAndBookmark => self.bookmark(true).await,
            _ => Ok(()),
        }
    }

    async fn follow(&mut self, until: Instant) -> End {
        let mut changes = self.api.store.changes();
        let mut interrupted = self.api.interruptions();
        let every = self.api.bookmark_interval();
        let mut bookmark = interval_at(Instant::now() + every, every);
        loop {
            changes.borrow_and_update();
            if let Err(end) = self.catch_up().await {
                return end;
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = bookmark.tick(), if self.bookmarks => {
                    if let Err(end) = self.bookmark(false).await {
                        return end;
                    }
                }
                what = interrupted.recv() => match what {
                    Ok(Interruption::Cut) => return End::Broken,
                    Ok(Interruption::Expired) => {
                        return End::Told(Failure::expired(self.revision, self.api.store.revision()));
                    }
                    Err(_) => return End::Quiet,
                },
                () = self.lines.closed() => return End::Quiet,
                () = sleep_until(until) => return End::Quiet,
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), End> {
        let (events, revision) =
            self.api.store.since(self.revision, self.target.resource).map_err(End::Told)?;
        for event in &events {
            if self.target.namespace.as_ref().is_some_and(|name| *name != event.key.namespace) {
                continue;
            }
            if let Some(kind) = self.kind_of(event) {
                self.send(kind, &shown(&event.after, self.view)).await?;
            }
        }
        self.revision = self.revision.max(revision);
        Ok(())
    }

    /// What the change is for this client: an object that begins to match is
    /// new, one that matches no more is gone.
    fn kind_of(&self, event: &Event) -> Option<&'static str> {
        let matched = event.before.as_ref().is_some_and(|object| self.selector.matches(object));
        let matches = !event.deleted && self.selector.matches(&event.after);
        match (matched, matches) {
            (false, false) => None,
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
        }
    }

    async fn bookmark(&self, initial: bool) -> Result<(), End> {
        let resource = self.target.resource;
        let mut object = match self.view {
            View::Whole => json!({"apiVersion": resource.api_version(), "kind": resource.kind}),
            View::Metadata => {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"})
            }
        };
        object["metadata"] = json!({"resourceVersion": self.revision.to_string(),
            "creationTimestamp": null});
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.send("BOOKMARK", &object).await
    }

    async fn send(&self, kind: &str, object: &Value) -> Result<(), End> {
        let mut line = serde_json::to_vec(&json!({"type": kind, "object": object}))
            .expect("JSON values can be written");
        line.push(b'\n');
        self.lines.send(Ok(line.into())).await.map_err(|_| End::Quiet)
    }
}
