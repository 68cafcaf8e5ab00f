//! State of the small API server.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::Uri;
use tokio::sync::broadcast;

use super::{
    failure::Failure,
    fault::Faults,
    request::Target,
    rights::{self, Denied},
    store::Store,
    write::Applied,
};

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub user: &'static str,
    pub verb: &'static str,
    pub resource: &'static str,
    pub uri: String,
}

/// What befalls all watches that are open.
#[derive(Clone, Copy, Debug)]
pub enum Interruption {
    /// The connection breaks off.
    Cut,
    /// `410 Gone` in the stream.
    Expired,
}

#[derive(Debug)]
pub struct Api {
    pub store: Store,
    pub faults: Faults,
    pub applied: Applied,
    tokens: Mutex<[(String, &'static str); 2]>,
    denied: Mutex<Denied>,
    seen: Mutex<Vec<Seen>>,
    interruptions: broadcast::Sender<Interruption>,
}

impl Api {
    pub fn new(agent: &str, admin: &str) -> Self {
        let bearer = |token| format!("Bearer {token}");
        Self {
            store: Store::default(),
            faults: Faults::default(),
            applied: Applied::default(),
            tokens: Mutex::new([(bearer(agent), rights::AGENT), (bearer(admin), rights::ADMIN)]),
            denied: Mutex::default(),
            seen: Mutex::default(),
            interruptions: broadcast::Sender::new(16),
        }
    }

    /// Who sends this `Authorization`.
    pub fn user(&self, authorization: &str) -> Result<&'static str, Failure> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tokens.iter().find(|(bearer, _)| bearer == authorization);
        let user = known.map(|(_, user)| *user);
        user.ok_or_else(|| Failure::new(401, "Unauthorized", "Unauthorized"))
    }

    /// The agent's from now on; the one before counts no more.
    pub fn change_token(&self, agent: &str) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens[0].0 = format!("Bearer {agent}");
    }

    pub fn denied(&self) -> MutexGuard<'_, Denied> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, user: &'static str, verb: &'static str, target: &Target, uri: &Uri) {
        let resource = target.resource.plural;
        let seen = Seen { at: Instant::now(), user, verb, resource, uri: uri.to_string() };
        self.seen().push(seen);
    }

    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn interrupt(&self, what: Interruption) {
        // An error means that nobody watches.
        let _ = self.interruptions.send(what);
    }

    pub fn interruptions(&self) -> broadcast::Receiver<Interruption> {
        self.interruptions.subscribe()
    }

    /// A real server says once a minute where a watch is; tests don't wait that long.
    pub fn bookmark_interval(&self) -> Duration {
        Duration::from_secs(2)
    }
}
