//! Nodes: where they are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Key, Meta, Resource, Watched};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub key: Key,
    /// Empty where the node doesn't say, as the zone.
    pub region: Arc<str>,
    pub zone: Arc<str>,
}

#[derive(Deserialize)]
pub struct Wire {
    metadata: Meta,
}

impl Watched for Node {
    type Wire = Wire;

    const RESOURCE: Resource =
        Resource { group: "", version: "v1", plural: "nodes", metadata_only: true };

    fn read(Wire { metadata }: Wire) -> Result<Self, String> {
        Ok(Self {
            key: metadata.key(),
            region: metadata.label("topology.kubernetes.io/region").into(),
            zone: metadata.label("topology.kubernetes.io/zone").into(),
        })
    }

    fn key(&self) -> Key {
        self.key.clone()
    }

    fn key_of(wire: &Wire) -> Key {
        wire.metadata.key()
    }
}
