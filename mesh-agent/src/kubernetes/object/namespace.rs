//! Namespaces: which of them are meshed.

use serde::{Deserialize, Serialize};

use super::{Key, Meta, Resource, Watched};

/// `"true"` on a namespace or a pod has its sockets captured.
pub const CAPTURE_LABEL: &str = "mesh.dev/capture";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub key: Key,
    pub captured: bool,
}

#[derive(Deserialize)]
pub struct Wire {
    metadata: Meta,
}

impl Watched for Namespace {
    type Wire = Wire;

    const RESOURCE: Resource =
        Resource { group: "", version: "v1", plural: "namespaces", metadata_only: true };

    fn read(Wire { metadata }: Wire) -> Result<Self, String> {
        Ok(Self { key: metadata.key(), captured: metadata.label(CAPTURE_LABEL) == "true" })
    }

    fn key(&self) -> Key {
        self.key.clone()
    }

    fn key_of(wire: &Wire) -> Key {
        wire.metadata.key()
    }
}
