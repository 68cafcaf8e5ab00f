//! `ReferenceGrant`: who may name Services of another namespace.

use serde::{Deserialize, Serialize};

use super::object::GATEWAY;
use crate::kubernetes::{Key, Resource, Watched};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceGrant {
    /// In the namespace that it opens.
    pub key: Key,
    pub from: Vec<From>,
    pub to: Vec<To>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct From {
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct To {
    pub group: String,
    pub kind: String,
    /// All of the kind where there is none.
    #[serde(default)]
    pub name: Option<String>,
}

impl ReferenceGrant {
    /// Whether a route of `namespace` may name this Service.
    pub fn allows(&self, route_kind: &str, namespace: &str, service: &Key) -> bool {
        *self.key.namespace == *service.namespace
            && self.from.iter().any(|from| {
                from.group == GATEWAY && from.kind == route_kind && from.namespace == namespace
            })
            && self.to.iter().any(|to| {
                to.group.is_empty()
                    && to.kind == "Service"
                    && to.name.as_deref().is_none_or(|name| name == &*service.name)
            })
    }
}

#[derive(Debug, Deserialize)]
pub struct Wire {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    from: Vec<From>,
    to: Vec<To>,
}

impl Watched for ReferenceGrant {
    type Wire = Wire;

    const RESOURCE: Resource = Resource {
        group: GATEWAY,
        version: "v1beta1",
        plural: "referencegrants",
        metadata_only: false,
    };

    fn read(wire: Wire) -> Result<Self, String> {
        Ok(Self { key: Self::key_of(&wire), from: wire.spec.from, to: wire.spec.to })
    }

    fn key(&self) -> Key {
        self.key.clone()
    }

    fn key_of(wire: &Wire) -> Key {
        Key::new(&wire.metadata.namespace, &wire.metadata.name)
    }
}
