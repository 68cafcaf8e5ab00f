//! What a Service means to the mesh. Pure: objects in, model out.

mod instances;
mod protocol;

pub(super) use instances::{Place, instances};

use std::sync::Arc;

use super::{Distribution, Service, ServiceKind};
use crate::model::{
    DnsSource, Kubernetes, KubernetesSource, LocalityMode, PathChoice, Policy, Port, ServiceName,
    ServiceSpec, Source,
};

/// The service of the mesh that a Service becomes by itself, `NAME.NAMESPACE`;
/// `None` where there is nothing to carry.
///
/// A headless Service has no virtual address: its clients have resolved its
/// name and chosen a pod, which is the one they mean (a member of a
/// `StatefulSet`, most often). Their connections are left alone. It is a service
/// even so: routes send requests to it. The same is true of an ExternalName,
/// whose clients get another name's addresses.
pub(super) fn spec(service: &Service, settings: &Kubernetes) -> Option<ServiceSpec> {
    if service.foreign || service.ports.is_empty() {
        return None;
    }
    let (namespace, name) = (&service.key.namespace, &service.key.name);
    let full = format!("{name}.{namespace}");
    let watched = || Source::Kubernetes(KubernetesSource::new(namespace, name, None));
    let (addresses, source) = match &service.kind {
        // It gets them with the next change.
        ServiceKind::ClusterIp(addresses) if addresses.is_empty() => return None,
        ServiceKind::ClusterIp(addresses) => (addresses.clone(), watched()),
        ServiceKind::Headless => (Vec::new(), watched()),
        ServiceKind::ExternalName(external) if external.is_empty() => return None,
        ServiceKind::ExternalName(external) => {
            let source = DnsSource { name: external.clone(), ..DnsSource::default() };
            (Vec::new(), Source::Dns(source))
        }
    };
    let hostnames = match addresses.is_empty() {
        // The cluster's DNS answers, with the pods or the alias.
        true => Vec::new(),
        false => {
            let domain = &settings.cluster_domain;
            vec![full.clone(), format!("{full}.svc"), format!("{full}.svc.{domain}")]
        }
    };
    Some(ServiceSpec {
        name: ServiceName::new(&full),
        addresses,
        hostnames,
        ports: service.ports.iter().map(port).collect(),
        path: PathChoice::Auto,
        on_agent_failure: settings.on_agent_failure,
        static_instances: Vec::new(),
        sources: vec![source],
        routes: Vec::new(),
        policy: Arc::new(policy(service, settings)),
    })
}

fn port(port: &super::ServicePort) -> Port {
    Port { port: port.port, protocol: protocol::of(port) }
}

/// `defaults.policy`, with what the Service says itself. Without a word on
/// localities, on either side, all instances are alike, as Kubernetes has it.
fn policy(service: &Service, settings: &Kubernetes) -> Policy {
    let mut policy = settings.policy.clone();
    policy.session_affinity = service.affinity.or(policy.session_affinity);
    policy.locality.mode = match (service.distribution, settings.own_locality) {
        (_, true) => policy.locality.mode,
        (Some(Distribution::SameZone | Distribution::SameNode), false) => LocalityMode::Failover,
        (None, false) => LocalityMode::Off,
    };
    policy
}

#[cfg(test)]
mod tests;
