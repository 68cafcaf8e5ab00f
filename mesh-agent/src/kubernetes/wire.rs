//! Lists and events as the API server writes them.

use serde::{Deserialize, de::DeserializeOwned};

use super::{Key, Watched, failure::Status};

/// One page of a list.
pub(super) struct Page<W> {
    pub version: String,
    /// Where the next page begins.
    pub next: Option<String>,
    pub items: Vec<Result<W, Unreadable>>,
}

/// An object that isn't what it should be.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// Of what can be told even so.
    pub key: Option<Key>,
    pub why: String,
}

#[derive(Deserialize)]
struct List<W> {
    metadata: ListMeta,
    /// Missing and `null` is how Go writes an empty list.
    #[serde(default = "none")]
    items: Option<Vec<W>>,
}

fn none<W>() -> Option<Vec<W>> {
    None
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

/// What every event has; all else in it is skipped.
#[derive(Deserialize)]
pub(super) struct EventHead {
    #[serde(rename = "type")]
    pub kind: EventKind,
    object: ObjectHead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EventKind {
    Added,
    Modified,
    Deleted,
    /// Nothing happened, up to this version.
    Bookmark,
    Error,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectHead {
    metadata: HeadMeta,
    code: u16,
    message: String,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMeta {
    name: String,
    namespace: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct Event<W> {
    object: W,
}

/// Reads a page. In the usual case straight from the text; only where that
/// fails, object by object.
pub(super) fn page<W: DeserializeOwned>(text: &[u8]) -> Result<Page<W>, serde_json::Error> {
    if let Ok(List { metadata, items }) = serde_json::from_slice::<List<W>>(text) {
        return Ok(Page::new(metadata, items.into_iter().flatten().map(Ok).collect()));
    }
    let List { metadata, items } = serde_json::from_slice::<List<serde_json::Value>>(text)?;
    let item = |value: serde_json::Value| {
        W::deserialize(&value).map_err(|error| {
            let of = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (of("namespace"), of("name"));
            let key = (!name.is_empty()).then(|| Key::new(&namespace, &name));
            Unreadable { key, why: error.to_string() }
        })
    };
    Ok(Page::new(metadata, items.into_iter().flatten().map(item).collect()))
}

/// What is kept of an object.
pub(super) fn read<K: Watched>(wire: K::Wire) -> Result<K, Unreadable> {
    let key = K::key_of(&wire);
    K::read(wire).map_err(|why| Unreadable { key: Some(key), why })
}

/// The object of an event.
pub(super) fn object<W: DeserializeOwned>(line: &[u8]) -> Result<W, String> {
    let event: Event<W> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(event.object)
}

impl<W> Page<W> {
    fn new(metadata: ListMeta, items: Vec<Result<W, Unreadable>>) -> Self {
        let next = Some(metadata.r#continue).filter(|next| !next.is_empty());
        Self { version: metadata.resource_version, next, items }
    }
}

impl EventHead {
    pub fn key(&self) -> Key {
        Key::new(&self.object.metadata.namespace, &self.object.metadata.name)
    }

    pub fn version(&self) -> Option<String> {
        let version = &self.object.metadata.resource_version;
        (!version.is_empty()).then(|| version.clone())
    }

    /// Of an error.
    pub fn status(self) -> Status {
        let ObjectHead { code, message, reason, .. } = self.object;
        Status { code, message, reason }
    }
}
