//! What identifies an object among those of its resource.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Namespace and name; the namespace is empty of what stands in none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => f.pad(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}
