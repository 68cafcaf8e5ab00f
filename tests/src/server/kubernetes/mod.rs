//! An API server of Kubernetes, and its objects.
//!
//! Where `KUBEBUILDER_ASSETS` names a folder with `kube-apiserver` and `etcd`
//! it is these. Else it is a small server of our own: HTTPS with bearer tokens,
//! lists in pages, watches with bookmarks, patches, RBAC; and what a real one
//! does only on bad days, as scripted.

mod answer;
mod api;
mod client;
mod discovery;
mod failure;
mod fault;
mod listener;
mod merge;
pub mod object;
mod real;
mod request;
mod resource;
mod rights;
mod select;
mod small;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tokio::runtime::Runtime;

pub use api::Seen;
pub use fault::{Effect, Fault};

use crate::world::World;
use api::{Api, Interruption};
use listener::{Certificates, free_port};
use real::Real;
use resource::Resource;
use small::Small;
use store::Key;

/// Names a folder with `kube-apiserver` and `etcd`, as in all projects of this field.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const AGENT_TOKEN: &str = "token-of-the-agent";
const ADMIN_TOKEN: &str = "token-of-the-admin";

/// The API server of a world, on the loopback address of the agent's namespace.
#[derive(Debug)]
pub struct Kubernetes {
    folder: PathBuf,
    authority: PathBuf,
    address: SocketAddr,
    server: Server,
    runtime: Runtime,
}

#[derive(Debug)]
enum Server {
    Small(Box<Small>),
    Real(Box<Real>),
}

impl Kubernetes {
    pub fn start(world: &World) -> Result<Self> {
        let folder = world.folder().join("kubernetes");
        let Some(assets) = env::var_os(ASSETS) else {
            println!("{ASSETS} is not set: the API server is the tests' own");
            return Self::start_small(&folder);
        };
        let (runtime, certificates, address) = prepare(&folder)?;
        let of_server = (&certificates, address);
        let real = Real::start(world, (Path::new(&assets), &folder), &runtime, of_server)?;
        let server = Server::Real(Box::new(real));
        Ok(Self { folder, authority: certificates.authority, address, server, runtime })
    }

    /// The small server, without a world: its files are in `folder`.
    pub fn start_small(folder: &Path) -> Result<Self> {
        let (runtime, certificates, address) = prepare(folder)?;
        Self::serve(folder, (runtime, certificates, address))
    }

    fn serve(
        folder: &Path,
        (runtime, certificates, address): (Runtime, Certificates, SocketAddr),
    ) -> Result<Self> {
        let authority = certificates.authority.clone();
        let mut small = Small::new(Api::new(AGENT_TOKEN, ADMIN_TOKEN), certificates, address);
        small.start(&runtime)?;
        let (folder, server) = (folder.to_owned(), Server::Small(Box::new(small)));
        Ok(Self { folder, authority, address, server, runtime })
    }

    /// Whether it does what a real server can't be told to do. Says so where not.
    pub fn does(&self, what: &str) -> bool {
        if !self.is_small() {
            println!("skipped: a real API server can't be told to do this: {what}");
        }
        self.is_small()
    }

    /// Whether it is the tests' own.
    pub fn is_small(&self) -> bool {
        matches!(self.server, Server::Small(_))
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
        let (address, authority) = (self.address, self.authority.display());
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a kubelet mounts into the agent's pod.
    pub fn service_account(&self) -> Result<PathBuf> {
        let folder = self.folder.join("serviceaccount");
        fs::create_dir_all(&folder)?;
        fs::copy(&self.authority, folder.join("ca.crt"))?;
        fs::write(folder.join("namespace"), "mesh-system")?;
        fs::write(folder.join("token"), AGENT_TOKEN)?;
        Ok(folder)
    }

    /// As the kubelet does before a token expires: another one is in the file, and
    /// the one before counts no more.
    pub fn change_token(&self) -> Result<()> {
        const NEXT: &str = "next-token-of-the-agent";
        fs::write(self.folder.join("serviceaccount/token"), NEXT)?;
        self.small()?.change_token(NEXT);
        Ok(())
    }

    /// Creates an object or replaces it, its status included. What is stored.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let key = write::key_of(object).map_err(|failure| anyhow!(failure.message))?;
        match &self.server {
            Server::Real(real) => real.apply(&key, object),
            Server::Small(small) => match write::put(&small.api.store, &key, object) {
                Ok(stored) => Ok((*stored).clone()),
                Err(failure) => bail!("{key:?}: {}", failure.message),
            },
        }
    }

    /// [`Kubernetes::apply`] for many.
    pub fn apply_all<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        objects.into_iter().try_for_each(|object| self.apply(object).map(drop))
    }

    /// `resource` by its plural; `namespace` is empty for those without.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()> {
        let key = key(resource, namespace, name)?;
        match &self.server {
            Server::Real(real) => real.delete(&key),
            Server::Small(small) => match write::delete(&small.api.store, &key) {
                Ok(_) => Ok(()),
                Err(failure) => bail!("{}", failure.message),
            },
        }
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let key = key(resource, namespace, name)?;
        match &self.server {
            Server::Real(real) => real.get(&key),
            Server::Small(small) => Ok(small.api.store.get(&key).map(|object| (*object).clone())),
        }
    }

    /// All objects of a resource in a namespace.
    pub fn list(&self, resource: &str, namespace: &str) -> Result<Vec<Value>> {
        let resource = named(resource)?;
        match &self.server {
            Server::Real(real) => real.list(resource, namespace),
            Server::Small(small) => {
                let listed = small.api.store.list(resource, Some(namespace));
                Ok(listed.objects.iter().map(|object| (**object).clone()).collect())
            }
        }
    }

    /// Takes a right from the agent: `deny("list", "endpointslices")`.
    pub fn deny(&mut self, verb: &str, resource: &str) -> Result<()> {
        match &mut self.server {
            Server::Real(real) => real.deny(Some((verb, resource)))?,
            Server::Small(small) => {
                small.api.denied().push((verb.to_owned(), resource.to_owned()));
            }
        }
        Ok(())
    }

    /// Gives back all that [`Kubernetes::deny`] took.
    pub fn permit_all(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Real(real) => real.deny(None)?,
            Server::Small(small) => small.api.denied().clear(),
        }
        Ok(())
    }

    /// Goes away, with all its connections. What it keeps stays.
    pub fn go_away(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Real(real) => real.go_away()?,
            Server::Small(small) => small.stop(&self.runtime),
        }
        Ok(())
    }

    /// Comes back on the same port.
    pub fn come_back(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Real(real) => real.come_back(),
            Server::Small(small) => small.start(&self.runtime),
        }
    }

    /// All that was asked of the small server so far.
    pub fn requests(&self) -> Result<Vec<Seen>> {
        Ok(self.small()?.seen().clone())
    }

    /// Breaks all watches that are open.
    pub fn cut_watches(&self) -> Result<()> {
        self.small()?.interrupt(Interruption::Cut);
        Ok(())
    }

    /// Forgets all history, and tells those who watch: `410 Gone`.
    pub fn expire(&self) -> Result<()> {
        self.small()?.store.forget();
        self.small()?.interrupt(Interruption::Expired);
        Ok(())
    }

    /// Does something wrong from now on.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        self.small()?.faults.add(fault);
        Ok(())
    }

    /// Ends all faults.
    pub fn heal(&self) -> Result<()> {
        self.small()?.faults.clear();
        Ok(())
    }

    /// Takes a resource away, as if its CRD were not installed, or brings it back.
    pub fn install(&self, resource: &str, there: bool) -> Result<()> {
        self.small()?.store.install(named(resource)?, there);
        Ok(())
    }

    fn small(&self) -> Result<&Api> {
        match &self.server {
            Server::Small(small) => Ok(&small.api),
            Server::Real(_) => bail!("only the small API server does this: ask `does` first"),
        }
    }
}

fn prepare(folder: &Path) -> Result<(Runtime, Certificates, SocketAddr)> {
    fs::create_dir_all(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kubernetes")
        .enable_all()
        .build()?;
    Ok((runtime, Certificates::make(folder)?, free_port()?))
}

fn named(resource: &str) -> Result<&'static Resource> {
    Resource::named(resource).with_context(|| format!("the API server has no {resource}"))
}

fn key(resource: &str, namespace: &str, name: &str) -> Result<Key> {
    let resource = named(resource)?;
    let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
    Ok(Key { resource, namespace, name: name.to_owned() })
}
