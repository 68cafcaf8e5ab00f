//! Create, update, patch, delete: what a real server does to an object on its
//! way in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    failure::Failure,
    merge,
    resource::Resource,
    store::{Key, Store},
};

/// Which part of an object a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status, where the resource has one.
    Main,
    Status,
    /// What only the tests can do: both at once.
    Whole,
}

/// How a `PATCH` says what shall change, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    Merge,
    Strategic,
    Json,
    Apply,
}

/// What server-side apply remembers: who applied what to which part.
#[derive(Debug, Default)]
pub struct Applied(Mutex<HashMap<(Key, String, bool), Value>>);

impl Applied {
    fn swap(&self, owner: (Key, String, bool), now: Value) -> Value {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(owner, now).unwrap_or_default()
    }
}

pub fn create(store: &Store, key: &Key, object: &Value, part: Part) -> Result<Arc<Value>, Failure> {
    store.change(key, |before| match before {
        Some(_) => Err(Failure::exists(key.resource, &key.name)),
        None => finish(key, None, object.clone(), part).map(Some),
    })
}

/// With a resource version in `object` only where it is the current one.
pub fn update(store: &Store, key: &Key, object: &Value, part: Part) -> Result<Arc<Value>, Failure> {
    store.change(key, |before| {
        let Some(before) = before else { return Err(Failure::not_found(key.resource, &key.name)) };
        finish(key, Some(before), object.clone(), part).map(Some)
    })
}

/// Creates it where it isn't there.
pub fn put(store: &Store, key: &Key, object: &Value) -> Result<Arc<Value>, Failure> {
    store.change(key, |before| finish(key, before, object.clone(), Part::Whole).map(Some))
}

pub fn delete(store: &Store, key: &Key) -> Result<Arc<Value>, Failure> {
    store.change(key, |_| Ok(None))
}

/// Applies a patch to what is there; `manager` is who does it.
pub fn patch(
    (store, applied): (&Store, &Applied),
    key: &Key,
    (kind, body): (Patch, &Value),
    (part, manager): (Part, &str),
) -> Result<Arc<Value>, Failure> {
    store.change(key, |before| {
        if before.is_none() && (kind != Patch::Apply || part == Part::Status) {
            return Err(Failure::not_found(key.resource, &key.name));
        }
        let mut object = before.cloned().unwrap_or_default();
        // The version that a patch names is the one that it is made for.
        match kind {
            Patch::Merge => merge::merge(&mut object, body),
            Patch::Strategic => merge::strategic(&mut object, body),
            Patch::Json => merge::json_patch(&mut object, body)?,
            Patch::Apply => {
                let owner = (key.clone(), manager.to_owned(), part == Part::Status);
                let last = applied.swap(owner, body.clone());
                merge::apply(&mut object, &last, body);
            }
        }
        finish(key, before, object, part).map(Some)
    })
}

/// What is stored of `object`, which replaces `before`.
fn finish(
    key: &Key,
    before: Option<&Value>,
    mut object: Value,
    part: Part,
) -> Result<Value, Failure> {
    if !object.is_object() {
        return Err(Failure::bad_request("the object provided is unrecognized"));
    }
    let Key { resource, namespace, name } = key;
    let none = Value::Null;
    let old = before.unwrap_or(&none);
    let version = &object["metadata"]["resourceVersion"];
    if part != Part::Whole
        && let Some(asked) = version.as_str().filter(|asked| !asked.is_empty())
        && before.is_some()
        && *asked != old["metadata"]["resourceVersion"]
    {
        return Err(Failure::conflict(resource, name));
    }
    match part {
        Part::Status => {
            let status = object["status"].take();
            object = old.clone();
            object["status"] = status;
        }
        Part::Main if resource.status => set(&mut object, "status", &old["status"]),
        Part::Main | Part::Whole => {}
    }
    set(&mut object, "apiVersion", &json!(resource.api_version()));
    set(&mut object, "kind", &json!(resource.kind));
    if *resource.plural == *"services" {
        keep_cluster_ip(&mut object, old);
    }
    let metadata = &mut object["metadata"];
    merge::object(metadata).shift_remove("managedFields");
    set(metadata, "name", &json!(name));
    if resource.namespaced {
        set(metadata, "namespace", &json!(namespace));
    }
    let kept = &old["metadata"];
    if part != Part::Whole || metadata["uid"].is_null() {
        let new = json!(format!("00000000-0000-4000-8000-{:012x}", next_number()));
        set(metadata, "uid", kept.get("uid").unwrap_or(&new));
    }
    let now = json!(timestamp());
    set(metadata, "creationTimestamp", kept.get("creationTimestamp").unwrap_or(&now));
    set(metadata, "resourceVersion", kept.get("resourceVersion").unwrap_or(&none));
    let generation = kept["generation"].as_u64().unwrap_or(0);
    set(metadata, "generation", &json!(generation.max(1)));
    if before.is_some() && intent(&object) != intent(old) {
        object["metadata"]["generation"] = json!(generation + 1);
    }
    Ok(object)
}

/// What the generation counts: everything but metadata and status.
fn intent(object: &Value) -> Value {
    let mut object = object.clone();
    let fields = merge::object(&mut object);
    fields.shift_remove("metadata");
    fields.shift_remove("status");
    object
}

/// A service gets a virtual address, and keeps it.
fn keep_cluster_ip(service: &mut Value, old: &Value) {
    let spec = &mut service["spec"];
    if !spec["clusterIP"].is_null() || spec["type"] == "ExternalName" {
        return;
    }
    let number = next_number();
    let new = json!(format!("10.96.{}.{}", 100 + number / 250 % 100, 1 + number % 250));
    let ip = old["spec"].get("clusterIP").unwrap_or(&new).clone();
    set(spec, "clusterIPs", &json!([ip]));
    set(spec, "clusterIP", &ip);
}

fn set(object: &mut Value, key: &str, value: &Value) {
    let fields = merge::object(object);
    if value.is_null() {
        fields.shift_remove(key);
    } else {
        fields.insert(key.to_owned(), value.clone());
    }
}

/// Of an object that names its kind, for a request or a test that doesn't.
pub fn key_of(object: &Value) -> Result<Key, Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let resource = Resource::of(&version, &kind)
        .ok_or_else(|| Failure::bad_request(format!("no kind {kind} in {version}")))?;
    let metadata = &object["metadata"];
    let namespace = if resource.namespaced { text(&metadata["namespace"]) } else { String::new() };
    if resource.namespaced && namespace.is_empty() {
        return Err(Failure::bad_request(format!("a {kind} needs a namespace")));
    }
    Ok(Key { resource, namespace, name: text(&metadata["name"]) })
}

/// Differs for each call that changes something.
fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Now, as in `creationTimestamp`.
pub fn timestamp() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days of the civil calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
