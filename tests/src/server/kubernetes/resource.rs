//! The resources that the API server has.

use std::fmt;

/// A resource, as `kubectl api-resources` lists them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub short: &'static str,
    pub namespaced: bool,
    /// It has a part that is written on its own.
    pub status: bool,
}

const fn resource(
    (group, version): (&'static str, &'static str),
    plural: &'static str,
    (kind, short): (&'static str, &'static str),
    namespaced: bool,
    status: bool,
) -> Resource {
    Resource { group, version, plural, kind, short, namespaced, status }
}

const CORE: (&str, &str) = ("", "v1");
const GATEWAY: (&str, &str) = ("gateway.networking.k8s.io", "v1");

pub static RESOURCES: [Resource; 11] = [
    resource(CORE, "services", ("Service", "svc"), true, true),
    resource(CORE, "pods", ("Pod", "po"), true, true),
    resource(CORE, "nodes", ("Node", "no"), false, true),
    resource(CORE, "namespaces", ("Namespace", "ns"), false, true),
    resource(CORE, "events", ("Event", "ev"), true, false),
    resource(("discovery.k8s.io", "v1"), "endpointslices", ("EndpointSlice", ""), true, false),
    resource(("coordination.k8s.io", "v1"), "leases", ("Lease", ""), true, false),
    resource(("mesh.dev", "v1alpha1"), "meshpolicies", ("MeshPolicy", ""), true, true),
    resource(GATEWAY, "httproutes", ("HTTPRoute", ""), true, true),
    resource(GATEWAY, "grpcroutes", ("GRPCRoute", ""), true, true),
    resource(
        ("gateway.networking.k8s.io", "v1beta1"),
        "referencegrants",
        ("ReferenceGrant", "refgrant"),
        true,
        false,
    ),
];

impl Resource {
    /// By `plural.group`, or the plural alone.
    pub fn named(name: &str) -> Option<&'static Self> {
        let (plural, group) = name.split_once('.').map_or((name, None), |(p, g)| (p, Some(g)));
        RESOURCES
            .iter()
            .find(|one| one.plural == plural && group.is_none_or(|group| one.group == group))
    }

    /// What an object says that it is.
    pub fn of(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|one| one.kind == kind && one.api_version() == api_version)
    }

    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Path of its list in a namespace, or over all of them.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let version = self.api_version();
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{version}/{}", self.plural),
        }
    }
}

/// `endpointslices.discovery.k8s.io`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.plural),
            group => write!(f, "{}.{group}", self.plural),
        }
    }
}
