//! What the API server is told to do wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{failure::Failure, resource::Resource};

/// Befalls requests until [`super::Kubernetes::heal`], or `times` of them.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `list`, `watch`, `get`, `create`, `update`, `patch` or `delete`; all where `None`.
    pub verb: Option<&'static str>,
    /// Plural name; all where `None`.
    pub resource: Option<&'static str>,
    pub times: Option<u32>,
    pub effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answers with this status, as an overloaded server would.
    Answer { status: u16, retry_after: Option<u32> },
    /// Takes the request and says nothing.
    Hang,
}

impl Fault {
    pub fn hang() -> Self {
        Self { verb: None, resource: None, times: None, effect: Effect::Hang }
    }

    pub fn answer(status: u16, retry_after: Option<u32>) -> Self {
        let effect = Effect::Answer { status, retry_after };
        Self { verb: None, resource: None, times: None, effect }
    }

    /// For one verb of one resource only.
    pub fn on(self, verb: &'static str, resource: &'static str) -> Self {
        Self { verb: Some(verb), resource: Some(resource), ..self }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    fn hits(&self, verb: &str, resource: &Resource) -> bool {
        self.times != Some(0)
            && self.verb.is_none_or(|one| one == verb)
            && self.resource.is_none_or(|one| one == resource.plural)
    }
}

#[derive(Debug)]
pub struct Faults {
    all: Mutex<Vec<Fault>>,
    changed: watch::Sender<()>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { all: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Faults {
    fn all(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, fault: Fault) {
        self.all().push(fault);
        self.changed.send_replace(());
    }

    pub fn clear(&self) {
        self.all().clear();
        self.changed.send_replace(());
    }

    fn next(&self, verb: &str, resource: &Resource) -> Option<Effect> {
        let mut all = self.all();
        let fault = all.iter_mut().find(|fault| fault.hits(verb, resource))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.effect.clone())
    }

    /// Lets a request pass, or not.
    pub async fn befall(&self, verb: &str, resource: &Resource) -> Result<(), Failure> {
        let mut changed = self.changed.subscribe();
        loop {
            match self.next(verb, resource) {
                None => return Ok(()),
                Some(Effect::Answer { status, retry_after }) => {
                    let reason = match status {
                        429 => "TooManyRequests",
                        503 => "ServiceUnavailable",
                        _ => "InternalError",
                    };
                    let message = format!("the tests told the server to answer {status}");
                    let failure = Failure::new(status, reason, message);
                    return Err(Failure { retry_after, ..failure });
                }
                // The sender is ours: it can't be gone.
                Some(Effect::Hang) => changed.changed().await.unwrap_or_default(),
            }
        }
    }
}
