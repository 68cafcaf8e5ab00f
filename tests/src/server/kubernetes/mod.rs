//! An API server of Kubernetes, and its objects.
//!
//! Where `KUBEBUILDER_ASSETS` names a folder with `kube-apiserver` and `etcd`
//! it is these. Else it is a small server of our own: HTTPS with bearer tokens,
//! lists in pages, watches with bookmarks, patches, RBAC; and what a real one
//! does only on bad days, as scripted.

mod answer;
mod api;
mod discovery;
mod failure;
mod fault;
mod listener;
mod merge;
pub mod object;
mod request;
mod resource;
mod rights;
mod select;
mod store;
mod stream;
mod write;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinHandle};

pub use api::Seen;
pub use fault::{Effect, Fault};

use crate::world::World;
use api::{Api, Interruption};
use listener::Certificates;
use resource::Resource;
use store::Key;

const AGENT_TOKEN: &str = "token-of-the-agent";
const ADMIN_TOKEN: &str = "token-of-the-admin";

/// The API server of a world, on the loopback address of the agent's namespace.
#[derive(Debug)]
pub struct Kubernetes {
    folder: PathBuf,
    certificates: Certificates,
    address: SocketAddr,
    api: Arc<Api>,
    serving: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Kubernetes {
    pub fn start(world: &World) -> Result<Self> {
        let folder = world.folder().join("kubernetes");
        fs::create_dir_all(&folder)?;
        Self::start_in(&folder)
    }

    /// [`Kubernetes::start`] without a world: its files are in `folder`.
    pub fn start_in(folder: &Path) -> Result<Self> {
        let folder = folder.to_owned();
        let certificates = Certificates::make(&folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kubernetes")
            .enable_all()
            .build()?;
        let api = Arc::new(Api::new(AGENT_TOKEN, ADMIN_TOKEN));
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let mut this = Self { folder, certificates, address, api, serving: None, runtime };
        this.come_back()?;
        Ok(this)
    }

    /// A kubeconfig with the rights of the agent.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        self.write_kubeconfig("agent", AGENT_TOKEN)
    }

    /// A kubeconfig that may do everything, for kubectl.
    pub fn admin_kubeconfig(&self) -> Result<PathBuf> {
        self.write_kubeconfig("admin", ADMIN_TOKEN)
    }

    fn write_kubeconfig(&self, user: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{user}.kubeconfig"));
        let (address, authority) = (self.address, self.certificates.authority.display());
        let content = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: tests\n\
             clusters: [{{name: tests, cluster: {{server: \"https://{address}\", \
             certificate-authority: {authority}}}}}]\n\
             users: [{{name: {user}, user: {{token: {token}}}}}]\n\
             contexts: [{{name: tests, context: {{cluster: tests, user: {user}}}}}]\n"
        );
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Creates an object or replaces it, its status included. What is stored.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let key = write::key_of(object).map_err(|failure| anyhow!(failure.message))?;
        let stored = write::put(&self.api.store, &key, object);
        stored.map(|object| (*object).clone()).map_err(|failure| anyhow!(failure.message))
    }

    /// `resource` by its plural; `namespace` is empty for those without.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()> {
        let deleted = write::delete(&self.api.store, &key(resource, namespace, name)?);
        deleted.map(drop).map_err(|failure| anyhow!(failure.message))
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let found = self.api.store.get(&key(resource, namespace, name)?);
        Ok(found.map(|object| (*object).clone()))
    }

    /// All that was asked of it so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.api.seen().clone()
    }

    /// Takes a right from the agent: `deny("list", "endpointslices")`.
    pub fn deny(&self, verb: &str, resource: &str) -> Result<()> {
        self.api.denied().push((verb.to_owned(), resource.to_owned()));
        Ok(())
    }

    /// Gives back all that [`Kubernetes::deny`] took.
    pub fn permit_all(&self) -> Result<()> {
        self.api.denied().clear();
        Ok(())
    }

    /// Goes away, with all its connections. What it keeps stays.
    pub fn go_away(&mut self) -> Result<()> {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // An error says that it was aborted, as it was.
            let _ = self.runtime.block_on(serving);
        }
        Ok(())
    }

    /// Comes back on the same port.
    pub fn come_back(&mut self) -> Result<()> {
        let listener = self.runtime.block_on(listener::listen(self.address))?;
        self.address = listener.local_addr()?;
        let serve = listener::serve(listener, Arc::clone(&self.api), self.certificates.clone());
        self.serving = Some(self.runtime.spawn(async {
            if let Err(error) = serve.await {
                eprintln!("the tests' API server ended: {error:#}");
            }
        }));
        Ok(())
    }

    /// Breaks all watches that are open.
    pub fn cut_watches(&self) -> Result<()> {
        self.api.interrupt(Interruption::Cut);
        Ok(())
    }

    /// Forgets all history, and tells those who watch: `410 Gone`.
    pub fn expire(&self) -> Result<()> {
        self.api.store.forget();
        self.api.interrupt(Interruption::Expired);
        Ok(())
    }

    /// Does something wrong from now on.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        self.api.faults.add(fault);
        Ok(())
    }

    /// Ends all faults.
    pub fn heal(&self) -> Result<()> {
        self.api.faults.clear();
        Ok(())
    }

    /// Takes a resource away, as if its CRD were not installed, or brings it back.
    pub fn install(&self, resource: &str, there: bool) -> Result<()> {
        self.api.store.install(named(resource)?, there);
        Ok(())
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

fn named(resource: &str) -> Result<&'static Resource> {
    Resource::named(resource).with_context(|| format!("the API server has no {resource}"))
}

fn key(resource: &str, namespace: &str, name: &str) -> Result<Key> {
    let resource = named(resource)?;
    let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
    Ok(Key { resource, namespace, name: name.to_owned() })
}
