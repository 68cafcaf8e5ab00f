//! The OCI's image layout: blobs named by their digest, and what refers to them.
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    config::{Program, architecture},
    sha256,
    tar::Tar,
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Not compressed: compressors differ, and with them the digest would.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Content, known by what it is.
#[derive(Debug)]
pub struct Blob {
    content: Vec<u8>,
    sum: String,
}

impl Blob {
    pub fn new(content: Vec<u8>) -> Result<Self> {
        Ok(Self { sum: sha256(&content)?, content })
    }

    fn json(value: &Value) -> Result<Self> {
        Self::new(serde_json::to_vec(value)?)
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.sum)
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({"mediaType": kind, "digest": self.digest(), "size": self.content.len()})
    }
}

/// The archive, and the digest that the image goes by.
pub fn archive(program: &Program, layer: Blob, name: &str) -> Result<(Vec<u8>, String)> {
    let config = Blob::json(&program.config(&layer.digest()))?;
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer.descriptor(LAYER)],
        "annotations": program.labels(),
    }))?;
    let mut entry = manifest.descriptor(MANIFEST);
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    // podman and docker go by the first name, containerd by the second.
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({
        "org.opencontainers.image.ref.name": tag,
        "io.containerd.image.name": name,
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    // For docker, which before 25 knew no other form.
    let docker = json!([{
        "Config": format!("blobs/sha256/{}", config.sum),
        "RepoTags": [name],
        "Layers": [format!("blobs/sha256/{}", layer.sum)],
    }]);

    let digest = manifest.digest();
    let mut blobs = [config, layer, manifest];
    blobs.sort_by(|a, b| a.sum.cmp(&b.sum));
    let mut tar = Tar::default();
    tar.folder("blobs")?;
    tar.folder("blobs/sha256")?;
    for blob in &blobs {
        tar.file(&format!("blobs/sha256/{}", blob.sum), &blob.content, 0o644)?;
    }
    tar.file("index.json", &serde_json::to_vec(&index)?, 0o644)?;
    tar.file("manifest.json", &serde_json::to_vec(&docker)?, 0o644)?;
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    Ok((tar.finish(), digest))
}
