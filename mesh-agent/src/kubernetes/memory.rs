//! What stands of the cluster, kept for the agent's next run: it may start
//! while the API server is away.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Change, Namespace, Node, Pod, Service, Slice, policy,
    store::{Dirty, Store},
};

/// Raised when the file's content changes its meaning: another version's is
/// not read.
const VERSION: u32 = 1;
/// Far above what fits the kernel's maps.
const LONGEST: u64 = 512 << 20;

/// The objects of an earlier run.
#[derive(Debug, Default, Deserialize)]
pub struct Memory {
    version: u32,
    /// Of whose cluster they are: the API server's URL.
    pub(super) cluster: String,
    /// The node that asked.
    pub(super) node: String,
    pub(super) services: Option<Vec<Service>>,
    pub(super) slices: Option<Vec<Slice>>,
    pub(super) namespaces: Option<Vec<Namespace>>,
    pub(super) nodes: Option<Vec<Node>>,
    pub(super) pods: Option<Vec<Pod>>,
    #[serde(default)]
    pub(super) policies: Option<policy::Kept>,
    /// When it was written; `None` where the clocks don't say.
    #[serde(skip)]
    pub(super) written: Option<Instant>,
}

#[derive(Serialize)]
struct Kept<'a> {
    version: u32,
    cluster: &'a str,
    node: &'a str,
    services: Option<Vec<&'a Service>>,
    slices: Option<Vec<&'a Slice>>,
    namespaces: Option<Vec<&'a Namespace>>,
    nodes: Option<Vec<&'a Node>>,
    pods: Option<Vec<&'a Pod>>,
    policies: Option<policy::Kept>,
}

impl Memory {
    /// What an earlier run kept; empty, with a line in the log, where there is
    /// nothing that can be read.
    pub fn load(path: &Path) -> Self {
        match read(path) {
            Ok(Some(memory)) if memory.version == VERSION => memory,
            Ok(None) => Self::default(),
            Ok(Some(_)) => {
                tracing::info!(path = %path.display(), "another version's cluster: not used");
                Self::default()
            }
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    %error,
                    "can't read what an earlier agent knew of the cluster: it is asked first"
                );
                Self::default()
            }
        }
    }

    pub(super) fn into_store(self, dirty: &mut Dirty) -> Store {
        let mut store = Store::default();
        let node = self.node;
        let all = self.services.into_iter().flatten();
        all.for_each(|it| store.service(Change::Applied(it), dirty));
        let all = self.slices.into_iter().flatten();
        all.for_each(|it| store.slice(Change::Applied(it), dirty));
        let all = self.namespaces.into_iter().flatten();
        all.for_each(|it| store.namespace(Change::Applied(it), dirty));
        let all = self.nodes.into_iter().flatten();
        all.for_each(|it| store.node(Change::Applied(it), &node, dirty));
        let all = self.pods.into_iter().flatten();
        all.for_each(|it| store.pod(Change::Applied(it), dirty));
        store
    }
}

/// What is known of each resource; what isn't is not kept, so that nobody takes
/// it for empty.
pub(super) struct Known {
    pub services: bool,
    pub slices: bool,
    pub namespaces: bool,
    pub nodes: bool,
    pub pods: bool,
}

/// The file's text.
pub(super) fn text(
    store: &Store,
    policies: policy::Kept,
    known: &Known,
    cluster: &str,
    node: &str,
) -> serde_json::Result<Vec<u8>> {
    let pods = || store.pods.values().map(|pod| &**pod);
    serde_json::to_vec(&Kept {
        version: VERSION,
        cluster,
        node,
        services: known.services.then(|| store.services.values().collect()),
        slices: known.slices.then(|| store.all_slices().collect()),
        namespaces: known.namespaces.then(|| store.namespaces.values().collect()),
        nodes: known.nodes.then(|| store.nodes.values().collect()),
        pods: known.pods.then(|| pods().collect()),
        policies: Some(policies),
    })
}

/// Replaces the file in one step: a crash leaves the old one or the new one.
pub(super) fn save(text: &[u8], path: &Path) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file =
        File::options().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text)?;
    drop(file);
    fs::rename(fresh, path)
}

fn read(path: &Path) -> io::Result<Option<Memory>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let age = file.metadata()?.modified()?.elapsed().ok();
    let written = age.and_then(|age| Instant::now().checked_sub(age));
    let mut text = Vec::new();
    if file.take(LONGEST + 1).read_to_end(&mut text)? as u64 > LONGEST {
        return Err(io::Error::other("it is too long to be ours"));
    }
    let memory: Memory = serde_json::from_slice(&text)?;
    Ok(Some(Memory { written, ..memory }))
}
