//! The resources that say how Services' traffic is treated: `MeshPolicy`, and
//! Gateway API's `HTTPRoute` and `GRPCRoute`.
//!
//! Their specs stay JSON until they are judged: one that makes no sense has to
//! be answered in its status, not be lost in the watch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::crd;
use crate::kubernetes::{Key, Resource, Watched};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    MeshPolicy,
    HttpRoute,
    GrpcRoute,
}

/// One such resource, as it stands in the API server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    pub kind: Kind,
    pub key: Key,
    pub uid: Arc<str>,
    /// Of the spec.
    pub generation: i64,
    /// RFC 3339 as the API server writes it, so that texts compare as times do.
    pub created: Arc<str>,
    /// `resourceVersion`
    pub version: Arc<str>,
    pub spec: Value,
    pub status: Value,
}

impl Object {
    /// Who comes first where two can't both have it: the older, then the name.
    pub fn seniority(&self) -> (&str, &Key) {
        (&self.created, &self.key)
    }
}

impl Kind {
    pub const fn resource(self) -> Resource {
        let (group, version, plural) = match self {
            Self::MeshPolicy => (crd::GROUP, crd::VERSION, crd::PLURAL),
            Self::HttpRoute => (GATEWAY, "v1", "httproutes"),
            Self::GrpcRoute => (GATEWAY, "v1", "grpcroutes"),
        };
        Resource { group, version, plural, metadata_only: false }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::MeshPolicy => crd::KIND,
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
        }
    }
}

/// The group of Gateway API.
pub const GATEWAY: &str = "gateway.networking.k8s.io";

/// As the API server writes it.
#[derive(Debug, Deserialize)]
pub struct Wire {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    generation: i64,
    creation_timestamp: String,
    resource_version: String,
}

impl Wire {
    pub fn key(&self) -> Key {
        Key::new(&self.metadata.namespace, &self.metadata.name)
    }

    pub fn object(self, kind: Kind) -> Object {
        Object {
            kind,
            key: self.key(),
            uid: self.metadata.uid.into(),
            generation: self.metadata.generation,
            created: self.metadata.creation_timestamp.into(),
            version: self.metadata.resource_version.into(),
            spec: self.spec,
            status: self.status,
        }
    }
}

/// One type for each resource, for the watch.
macro_rules! watched {
    ($($name:ident)*) => { $(
        pub struct $name(pub Object);

        impl Watched for $name {
            type Wire = Wire;

            const RESOURCE: Resource = Kind::$name.resource();

            fn read(wire: Wire) -> Result<Self, String> {
                Ok(Self(wire.object(Kind::$name)))
            }

            fn key(&self) -> Key {
                self.0.key.clone()
            }

            fn key_of(wire: &Wire) -> Key {
                wire.key()
            }
        }

        impl From<$name> for Object {
            fn from(watched: $name) -> Self {
                watched.0
            }
        }
    )* };
}

watched! { MeshPolicy HttpRoute GrpcRoute }
