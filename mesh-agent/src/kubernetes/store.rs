//! What stands of the cluster.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{Change, Key, Namespace, Node, Pod, Service, Slice, pods::NodePods};

/// All objects that are watched, by what they are asked for.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub services: BTreeMap<Key, Service>,
    /// By Service, then by the slice's name.
    pub slices: HashMap<Key, BTreeMap<Arc<str>, Slice>>,
    /// Slice → its Service, which a label may change.
    owners: HashMap<Key, Key>,
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    pub nodes: HashMap<Arc<str>, Node>,
    pub pods: BTreeMap<Key, Arc<Pod>>,
}

/// What has changed since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// The services themselves, or where this node is.
    pub services: bool,
    /// The instances of these Services.
    pub instances: HashSet<Key>,
    /// This node's pods, or which namespaces are captured.
    pub pods: bool,
    /// Somebody wrote the status of a policy or a route.
    pub statuses: bool,
    /// Anything at all, for the next run to know.
    pub unsaved: bool,
}

impl Store {
    pub fn service(&mut self, change: Change<Service>, dirty: &mut Dirty) {
        let key = match change {
            Change::Applied(service) => {
                let key = service.key.clone();
                if self.services.get(&key) == Some(&service) {
                    return;
                }
                self.services.insert(key.clone(), service);
                key
            }
            Change::Deleted(key) => {
                if self.services.remove(&key).is_none() {
                    return;
                }
                key
            }
            Change::Listed => return dirty.services = true,
        };
        dirty.services = true;
        dirty.unsaved = true;
        dirty.instances.insert(key);
    }

    pub fn slice(&mut self, change: Change<Slice>, dirty: &mut Dirty) {
        let (key, slice) = match change {
            Change::Applied(slice) => (slice.key.clone(), Some(slice)),
            Change::Deleted(key) => (key, None),
            Change::Listed => return dirty.services = true,
        };
        let owner = slice.as_ref().map(|slice| Key {
            namespace: Arc::clone(&key.namespace),
            name: Arc::clone(&slice.service),
        });
        let before = self.owners.get(&key).cloned();
        if let (Some(before), true) = (&before, before != owner) {
            if let Some(slices) = self.slices.get_mut(before) {
                slices.remove(&key.name);
                if slices.is_empty() {
                    self.slices.remove(before);
                }
            }
            self.owners.remove(&key);
            dirty.unsaved = true;
            dirty.instances.insert(before.clone());
        }
        if let (Some(slice), Some(owner)) = (slice, owner) {
            let slices = self.slices.entry(owner.clone()).or_default();
            if slices.get(&key.name) == Some(&slice) {
                return;
            }
            slices.insert(Arc::clone(&key.name), slice);
            self.owners.insert(key, owner.clone());
            dirty.unsaved = true;
            dirty.instances.insert(owner);
        }
    }

    pub fn namespace(&mut self, change: Change<Namespace>, dirty: &mut Dirty) {
        let changed = match change {
            Change::Applied(namespace) => {
                let (name, captured) = (Arc::clone(&namespace.key.name), namespace.captured);
                let before = self.namespaces.insert(name, namespace);
                before.is_some_and(|before| before.captured) != captured
            }
            Change::Deleted(key) => {
                self.namespaces.remove(&key.name).is_some_and(|before| before.captured)
            }
            Change::Listed => true,
        };
        dirty.pods |= changed;
        dirty.services |= changed;
        dirty.unsaved |= changed;
    }

    /// `own` is this node's name.
    pub fn node(&mut self, change: Change<Node>, own: &str, dirty: &mut Dirty) {
        let (name, changed) = match change {
            Change::Applied(node) => {
                let name = Arc::clone(&node.key.name);
                let changed = self.nodes.get(&name) != Some(&node);
                self.nodes.insert(Arc::clone(&name), node);
                (name, changed)
            }
            Change::Deleted(key) => {
                let known = self.nodes.remove(&key.name).is_some();
                (key.name, known)
            }
            Change::Listed => return,
        };
        if !changed {
            return;
        }
        dirty.unsaved = true;
        if *name == *own {
            // Hints and distances are from here.
            dirty.services = true;
            dirty.instances.extend(self.slices.keys().cloned());
            return;
        }
        let is_there = |slice: &Slice| {
            slice.endpoints.iter().any(|endpoint| endpoint.node.as_ref() == Some(&name))
        };
        let touched = self.slices.iter().filter(|(_, slices)| slices.values().any(is_there));
        dirty.instances.extend(touched.map(|(key, _)| key.clone()));
    }

    pub fn pod(&mut self, change: Change<Pod>, dirty: &mut Dirty) {
        match change {
            Change::Applied(pod) => {
                let key =
                    Key { namespace: Arc::clone(&pod.namespace), name: Arc::clone(&pod.name) };
                if self.pods.get(&key).is_some_and(|before| **before == pod) {
                    return;
                }
                self.pods.insert(key, Arc::new(pod));
            }
            Change::Deleted(key) => {
                if self.pods.remove(&key).is_none() {
                    return;
                }
            }
            Change::Listed => {}
        }
        dirty.pods = true;
        dirty.unsaved = true;
    }

    pub fn node_pods(&self) -> NodePods {
        let captured = self.namespaces.iter().filter(|(_, namespace)| namespace.captured);
        NodePods {
            pods: self.pods.values().cloned().collect(),
            captured_namespaces: Arc::new(captured.map(|(name, _)| Arc::clone(name)).collect()),
        }
    }

    /// The slices of a Service.
    pub fn slices_of(&self, service: &Key) -> impl Iterator<Item = &Slice> + Clone {
        self.slices.get(service).into_iter().flat_map(BTreeMap::values)
    }

    pub fn all_slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.values().flat_map(BTreeMap::values)
    }
}
