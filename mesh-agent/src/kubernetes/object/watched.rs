//! What a watch has to know of a resource.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, de::DeserializeOwned};

use super::Key;

/// A resource that can be watched, as what is kept of its objects.
pub trait Watched: Sized + Send + 'static {
    /// As the API server writes it. What isn't in here is skipped unread.
    type Wire: DeserializeOwned + Send;

    const RESOURCE: Resource;

    /// What is kept, or what is wrong with it in words.
    fn read(wire: Self::Wire) -> Result<Self, String>;

    fn key(&self) -> Key;

    /// The same, of what may turn out to be unreadable.
    fn key_of(wire: &Self::Wire) -> Key;
}

/// Where a resource is found at the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// Lower case, such as `endpointslices`.
    pub plural: &'static str,
    /// Nothing but `metadata` is read of its objects: nothing else is sent.
    pub metadata_only: bool,
}

impl Resource {
    /// Of all its objects, in all namespaces.
    pub fn path(&self) -> String {
        match self.group {
            "" => format!("/api/{}/{}", self.version, self.plural),
            group => format!("/apis/{group}/{}/{}", self.version, self.plural),
        }
    }
}

/// `endpointslices.discovery.k8s.io`, as RBAC's rules and `kubectl` name it.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.group {
            "" => Cow::Borrowed(self.plural),
            group => Cow::Owned(format!("{}.{group}", self.plural)),
        };
        f.pad(&name)
    }
}

/// `metadata`, as much as is read of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    pub name: String,
    pub namespace: Option<String>,
    pub uid: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Meta {
    pub fn key(&self) -> Key {
        Key::new(self.namespace.as_deref().unwrap_or_default(), &self.name)
    }

    /// Empty where there is no such label.
    pub fn label(&self, name: &str) -> &str {
        self.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
    }

    /// Empty where there is no such annotation.
    pub fn annotation(&self, name: &str) -> &str {
        let annotations = self.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(name)).map_or("", String::as_str)
    }
}
