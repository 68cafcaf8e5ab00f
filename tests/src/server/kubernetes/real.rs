//! kube-apiserver and etcd, as `KUBEBUILDER_ASSETS` has them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{
    ADMIN_TOKEN, AGENT_TOKEN,
    client::Client,
    listener::{Certificates, free_port},
    merge,
    resource::{RESOURCES, Resource},
    rights::{self, Denied},
    store::Key,
};
use crate::{
    process::{Place, Process, command_in, text},
    wait::eventually_for,
    world::World,
};

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
/// Longer than any test: they end with the world.
const SECONDS: u32 = 900;

#[derive(Debug)]
pub struct Real {
    binary: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
    cgroup: PathBuf,
    client: Client,
    server: Option<Process>,
    _etcd: Process,
    denied: Denied,
}

impl Real {
    pub fn start(
        world: &World,
        (assets, folder): (&Path, &Path),
        runtime: &Runtime,
        (certificates, address): (&Certificates, SocketAddr),
    ) -> Result<Self> {
        let etcd_address = free_port()?;
        let etcd = start_etcd(world, (assets, folder), etcd_address)?;
        let binary = assets.join("kube-apiserver");
        let tokens = folder.join("tokens.csv");
        let lines = format!(
            "{ADMIN_TOKEN},{},1,\"system:masters\"\n{AGENT_TOKEN},{},2\n",
            rights::ADMIN,
            rights::AGENT,
        );
        fs::write(&tokens, lines)?;
        let key = certificates.key.display();
        let mut arguments = vec![
            format!("--etcd-servers=http://{etcd_address}"),
            format!("--bind-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            format!("--cert-dir={}", folder.display()),
            format!("--tls-cert-file={}", certificates.certificate.display()),
            format!("--tls-private-key-file={key}"),
            format!("--token-auth-file={}", tokens.display()),
            format!("--service-account-key-file={}", certificates.public_key.display()),
            format!("--service-account-signing-key-file={key}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            // As where a DaemonSet like ours may run.
            "--allow-privileged=true".to_owned(),
        ];
        if lacks_slices(&binary)? {
            // What it has of them is replaced by a CRD: see `install`.
            arguments.push("--runtime-config=discovery.k8s.io/v1beta1=false".to_owned());
        }
        let client =
            Client::new(runtime.handle().clone(), certificates.client()?, address, ADMIN_TOKEN);
        let mut this = Self {
            binary,
            folder: folder.to_owned(),
            arguments,
            cgroup: world.agent_cgroup(),
            client,
            server: None,
            _etcd: etcd,
            denied: Denied::new(),
        };
        this.come_back()?;
        this.install()?;
        this.grant()?;
        Ok(this)
    }

    pub fn go_away(&mut self) -> Result<()> {
        match self.server.take() {
            Some(mut server) => server.kill9(),
            None => Ok(()),
        }
    }

    pub fn come_back(&mut self) -> Result<()> {
        let place = Place { cgroup: &self.cgroup, netns: None, resolv_conf: None };
        let mut command = command_in(&place, &self.binary)?;
        command.args(&self.arguments);
        let log = self.folder.join("kube-apiserver.log");
        let mut server = Process::start("kube-apiserver", command, log)?;
        eventually_for(Duration::from_secs(60), "kube-apiserver to be ready", || {
            if let Err(ended) = server.alive() {
                return Ok(Err(ended));
            }
            let (status, answer) =
                self.client.ask(&Method::GET, "/readyz", (JSON, &Value::Null))?;
            ensure!(status == 200, "{status}: {answer}");
            Ok(Ok(()))
        })??;
        self.server = Some(server);
        Ok(())
    }

    /// Makes CRDs of what this server doesn't know.
    fn install(&self) -> Result<()> {
        let mut missing = Vec::new();
        for resource in &RESOURCES {
            let path = resource.path(None);
            let (status, _) = self.client.ask(&Method::GET, &path, (JSON, &Value::Null))?;
            if status == 404 {
                missing.push(resource);
            }
        }
        // Two versions of one group are two CRDs of different names: none overlap.
        for resource in &missing {
            const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            self.client.must(&Method::POST, PATH, (JSON, &definition(resource)))?;
        }
        for resource in missing {
            eventually_for(Duration::from_secs(30), &format!("{resource} to be served"), || {
                let path = resource.path(None);
                self.client.must(&Method::GET, &path, (JSON, &Value::Null))
            })?;
        }
        Ok(())
    }

    /// Writes down what the agent may do.
    fn grant(&self) -> Result<()> {
        const ROOT: &str = "/apis/rbac.authorization.k8s.io/v1";
        let role = rights::cluster_role(&self.denied);
        let path = format!("{ROOT}/clusterroles/mesh-agent?fieldManager=tests&force=true");
        self.client.must(&Method::PATCH, &path, (APPLY, &role))?;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "mesh-agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "mesh-agent"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                "name": rights::AGENT}],
        });
        let path = format!("{ROOT}/clusterrolebindings/mesh-agent?fieldManager=tests&force=true");
        self.client.must(&Method::PATCH, &path, (APPLY, &binding)).map(drop)
    }

    pub fn deny(&mut self, denied: Option<(&str, &str)>) -> Result<()> {
        match denied {
            Some((verb, resource)) => self.denied.push((verb.to_owned(), resource.to_owned())),
            None => self.denied.clear(),
        }
        self.grant()
    }

    pub fn apply(&self, key: &Key, object: &Value) -> Result<Value> {
        let mut object = object.clone();
        let metadata = merge::object(&mut object["metadata"]);
        for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"]
        {
            metadata.shift_remove(field);
        }
        let status = merge::object(&mut object).shift_remove("status");
        let path = path(key);
        let query = "fieldManager=tests&force=true";
        let mut stored =
            self.client.must(&Method::PATCH, &format!("{path}?{query}"), (APPLY, &object))?;
        if let Some(status) = status.filter(|_| key.resource.status) {
            const MERGE: &str = "application/merge-patch+json";
            let patch = json!({"status": status});
            stored =
                self.client.must(&Method::PATCH, &format!("{path}/status"), (MERGE, &patch))?;
        }
        Ok(stored)
    }

    pub fn delete(&self, key: &Key) -> Result<()> {
        let path = format!("{}?gracePeriodSeconds=0", path(key));
        self.client.must(&Method::DELETE, &path, (JSON, &Value::Null)).map(drop)
    }

    pub fn list(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>> {
        let path = resource.path(Some(namespace));
        let list = self.client.must(&Method::GET, &path, (JSON, &Value::Null))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    pub fn get(&self, key: &Key) -> Result<Option<Value>> {
        let (status, object) = self.client.ask(&Method::GET, &path(key), (JSON, &Value::Null))?;
        ensure!(status == 200 || status == 404, "{}: {status}: {object}", path(key));
        Ok((status == 200).then_some(object))
    }
}

fn path(key: &Key) -> String {
    format!("{}/{}", key.resource.path(Some(&key.namespace)), key.name)
}

fn start_etcd(
    world: &World,
    (assets, folder): (&Path, &Path),
    address: SocketAddr,
) -> Result<Process> {
    let mut command = world.command(assets.join("etcd"), SECONDS)?;
    let url = format!("http://{address}");
    command.arg("--data-dir").arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    let peers = format!("http://{}", free_port()?);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    Process::start("etcd", command, folder.join("etcd.log"))
}

/// Whether it is older than 1.21, which was the first with `EndpointSlice` v1.
fn lacks_slices(binary: &Path) -> Result<bool> {
    let mut command = std::process::Command::new(binary);
    command.arg("--version");
    let version = text(command)?;
    let minor = version.trim().split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    Ok(minor.with_context(|| format!("no version of Kubernetes: {version}"))? < 21)
}

/// A CRD that lets everything pass: what is right is for the agent to find out.
fn definition(resource: &Resource) -> Value {
    let subresources = if resource.status { json!({"status": {}}) } else { json!({}) };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", resource.plural, resource.group),
            // Groups of Kubernetes itself ask for this.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": resource.group,
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "names": {"plural": resource.plural, "kind": resource.kind,
                "singular": resource.kind.to_lowercase(),
                "listKind": format!("{}List", resource.kind)},
            "versions": [{
                "name": resource.version, "served": true, "storage": true,
                "subresources": subresources,
                "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}
