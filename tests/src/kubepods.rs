//! Pods where a kubelet would have put them: below the cgroups that its drivers
//! make, and as objects of its API server.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{cgroup, pod::Pod, world::World};

/// How the kubelet names cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Systemd,
    Cgroupfs,
    /// systemd, below a parent that the kubelet was given, as in kind.
    SystemdBelow,
}

/// Where among the pods one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// The tree of one kubelet, below the cgroup of the world.
#[derive(Clone, Debug)]
pub struct Kubepods {
    pub path: PathBuf,
    driver: Driver,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug)]
pub struct KubePod {
    /// Its commands run in its container.
    pub pod: Pod,
    pub namespace: String,
    pub uid: String,
    /// The pod's own; containers are below.
    pub cgroup: PathBuf,
}

impl Kubepods {
    /// Nothing is made yet.
    pub fn new(world: &World, driver: Driver) -> Self {
        let path = match driver {
            Driver::Systemd => "kubepods.slice",
            Driver::Cgroupfs => "kubepods",
            Driver::SystemdBelow => "kubelet.slice/kubelet-kubepods.slice",
        };
        Self { path: world.cgroup().join(path), driver }
    }

    /// What the kubelet makes when it starts.
    pub fn create(&self) -> Result<()> {
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            cgroup::create(&self.class(class))?;
        }
        Ok(())
    }

    /// Pods of this class stand directly below.
    fn class(&self, class: Class) -> PathBuf {
        let name = match class {
            Class::Guaranteed => return self.path.clone(),
            Class::Burstable => "burstable",
            Class::BestEffort => "besteffort",
        };
        self.path.join(match self.stem() {
            Some(stem) => format!("{stem}-{name}.slice"),
            None => name.to_owned(),
        })
    }

    /// What the names of slices begin with.
    fn stem(&self) -> Option<&'static str> {
        match self.driver {
            Driver::Systemd => Some("kubepods"),
            Driver::SystemdBelow => Some("kubelet-kubepods"),
            Driver::Cgroupfs => None,
        }
    }

    /// The own cgroup of a pod.
    fn of(&self, class: Class, uid: &str) -> PathBuf {
        let Some(stem) = self.stem() else { return self.class(class).join(format!("pod{uid}")) };
        let uid = uid.replace('-', "_");
        self.class(class).join(match class {
            Class::Guaranteed => format!("{stem}-pod{uid}.slice"),
            Class::Burstable => format!("{stem}-burstable-pod{uid}.slice"),
            Class::BestEffort => format!("{stem}-besteffort-pod{uid}.slice"),
        })
    }

    /// A pod with the sandbox that the container runtime makes: a namespace, a
    /// pause container in it, and an empty container for its programs. `uid` is
    /// the API server's: see [`KubePod::created`].
    pub fn pod(&self, world: &World, name: &str, class: Class, uid: &str) -> Result<KubePod> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Relaxed);
        let cgroup = self.of(class, uid);
        let container = |number: u32| {
            let id = format!("{number:064x}");
            cgroup.join(match self.driver {
                Driver::Cgroupfs => id,
                _ => format!("cri-containerd-{id}.scope"),
            })
        };
        let mut pod = world.pod_in(name, container(0xa000 + number))?;
        world.pause(&mut pod)?;
        pod.cgroup = container(0xb000 + number);
        cgroup::create(&pod.cgroup)?;
        Ok(KubePod { pod, namespace: NAMESPACE.to_owned(), uid: uid.to_owned(), cgroup })
    }
}

/// Of all pods.
const NAMESPACE: &str = "default";

impl KubePod {
    /// What the API server knows of a pod before the kubelet has made it.
    pub fn created(name: &str, node: &str, labels: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "nodeName": node,
                "serviceAccountName": format!("{name}-account"),
                "containers": [{"name": "main", "image": "none"}],
            },
        })
    }

    /// What the API server knows of it, with these labels.
    pub fn object(&self, node: &str, labels: &Value) -> Value {
        let ips = self.pod.ips().map(|ip| json!({"ip": ip.to_string()}));
        let mut object = Self::created(&self.pod.name, node, labels);
        object["metadata"]["uid"] = self.uid.as_str().into();
        object["status"] = json!({"phase": "Running", "podIPs": ips});
        object
    }

    /// `NAMESPACE/POD`
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.pod.name)
    }
}
