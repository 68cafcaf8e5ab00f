//! What the API server keeps: objects, and the history of their changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{failure::Failure, resource::Resource};

/// Resource, namespace (empty where there is none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub resource: &'static Resource,
    pub namespace: String,
    pub name: String,
}

/// A change of one object.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: u64,
    pub key: Key,
    /// `None` for one that is new.
    pub before: Option<Arc<Value>>,
    pub after: Arc<Value>,
    pub deleted: bool,
}

#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    /// Tells watches that there is something new.
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    /// Changes up to this one are forgotten.
    forgotten: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: Vec<Event>,
    /// The rest of lists of which a client has taken the first pages.
    pages: HashMap<String, Listed>,
    uninstalled: BTreeSet<&'static Resource>,
}

/// Objects as they were at one revision.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub revision: u64,
    pub objects: Vec<Arc<Value>>,
}

impl Default for Store {
    fn default() -> Self {
        // As etcd the history begins with something that clients never see.
        let state = State { revision: 1, ..State::default() };
        Self { state: Mutex::new(state), revision: watch::Sender::new(1) }
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// All objects of a resource, of one namespace where one is named.
    pub fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> Listed {
        let state = self.state();
        let first = Key {
            resource,
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        let objects = state
            .objects
            .range(first..)
            .take_while(|(key, _)| {
                key.resource == resource && namespace.is_none_or(|name| name == key.namespace)
            })
            .map(|(_, object)| Arc::clone(object))
            .collect();
        Listed { revision: state.revision, objects }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.state().objects.get(key).cloned()
    }

    /// Changes of a resource after `revision`, and the revision that this leads to.
    pub fn since(
        &self,
        revision: u64,
        resource: &'static Resource,
    ) -> Result<(Vec<Event>, u64), Failure> {
        let state = self.state();
        if revision < state.forgotten {
            return Err(Failure::expired(revision, state.forgotten));
        }
        let first = state.history.partition_point(|event| event.revision <= revision);
        let events = state.history[first..].iter().filter(|event| event.key.resource == resource);
        Ok((events.cloned().collect(), state.revision))
    }

    /// Replaces an object by what `change` makes of it; `None` deletes it.
    pub fn change(
        &self,
        key: &Key,
        change: impl FnOnce(Option<&Value>) -> Result<Option<Value>, Failure>,
    ) -> Result<Arc<Value>, Failure> {
        let mut state = self.state();
        let before = state.objects.get(key).cloned();
        let after = change(before.as_deref())?;
        let deleted = after.is_none();
        let Some(mut object) = after.or_else(|| before.as_deref().cloned()) else {
            return Err(Failure::not_found(key.resource, &key.name));
        };
        // As a real server: what changes nothing is no change.
        if let Some(before) = before.as_ref().filter(|before| !deleted && ***before == object) {
            return Ok(Arc::clone(before));
        }
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let after = Arc::new(object);
        if deleted {
            state.objects.remove(key);
        } else {
            state.objects.insert(key.clone(), Arc::clone(&after));
        }
        let event = Event {
            revision: state.revision,
            key: key.clone(),
            before,
            after: Arc::clone(&after),
            deleted,
        };
        state.history.push(event);
        self.revision.send_replace(state.revision);
        Ok(after)
    }

    /// Forgets the history, as etcd does after a while: no client is up to date.
    pub fn forget(&self) {
        let mut state = self.state();
        state.revision += 1;
        state.forgotten = state.revision;
        state.history.clear();
        state.pages.clear();
        self.revision.send_replace(state.revision);
    }

    /// Keeps the rest of a list; the token by which [`Store::rest`] gives it out.
    pub fn keep(&self, rest: Listed) -> String {
        let mut state = self.state();
        let token = format!("rest-{}-{}", rest.revision, state.pages.len());
        state.pages.insert(token.clone(), rest);
        token
    }

    pub fn rest(&self, token: &str) -> Result<Listed, Failure> {
        const WHY: &str =
            "The provided continue parameter is too old to display a consistent list result";
        let kept = self.state().pages.get(token).cloned();
        kept.ok_or_else(|| Failure::new(410, "Expired", WHY))
    }

    /// Whether a resource is there at all: those of a CRD may not be.
    pub fn install(&self, resource: &'static Resource, there: bool) {
        let mut state = self.state();
        if there {
            state.uninstalled.remove(resource);
        } else {
            state.uninstalled.insert(resource);
            state.objects.retain(|key, _| key.resource != resource);
        }
    }

    pub fn installed(&self, resource: &'static Resource) -> bool {
        !self.state().uninstalled.contains(resource)
    }
}
