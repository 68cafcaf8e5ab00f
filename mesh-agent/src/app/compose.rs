//! The services of the file and those of the cluster as one configuration.
//! Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    kubernetes::policy::LeftOut,
    model::{Policy, ServiceName, ServiceSpec, Transport},
};

/// What only one service can have, with who has it.
#[derive(Default)]
struct Claims {
    names: HashSet<ServiceName>,
    hostnames: HashMap<String, ServiceName>,
    frontends: HashMap<(IpAddr, u16, Transport), ServiceName>,
}

/// All of the file's services, and those of the cluster that claim nothing of
/// theirs; the rest is left out whole, each with the reason in words.
pub(super) fn compose(
    file: &[Arc<ServiceSpec>],
    cluster: Vec<ServiceSpec>,
) -> (Vec<Arc<ServiceSpec>>, LeftOut) {
    let mut claims = Claims::default();
    file.iter().for_each(|service| claims.take(service));
    let mut services = file.to_vec();
    let mut left_out = LeftOut::new();
    let mut policies = Policies::default();
    services.reserve(cluster.len());
    for mut service in cluster {
        if let Some(why) = claims.conflict(&service) {
            left_out.insert(service.name, why);
            continue;
        }
        claims.take(&service);
        policies.share(&mut service.policy);
        services.push(Arc::new(service));
    }
    (services, left_out)
}

/// The last few policies: most services have the same one, which is held once.
#[derive(Default)]
struct Policies(VecDeque<Arc<Policy>>);

impl Policies {
    const LAST: usize = 8;

    fn share(&mut self, policy: &mut Arc<Policy>) {
        if let Some(same) = self.0.iter().find(|one| *one == policy) {
            *policy = Arc::clone(same);
            return;
        }
        self.0.truncate(Self::LAST - 1);
        self.0.push_front(Arc::clone(policy));
    }
}

impl Claims {
    fn take(&mut self, service: &ServiceSpec) {
        let name = &service.name;
        self.names.insert(name.clone());
        for hostname in &service.hostnames {
            self.hostnames.insert(hostname.clone(), name.clone());
        }
        for frontend in frontends(service) {
            self.frontends.insert(frontend, name.clone());
        }
    }

    fn conflict(&self, service: &ServiceSpec) -> Option<String> {
        if self.names.contains(&service.name) {
            return Some("the file has a service of that name".to_owned());
        }
        for hostname in &service.hostnames {
            if let Some(owner) = self.hostnames.get(hostname) {
                return Some(format!("its hostname {hostname} belongs to {owner}"));
            }
        }
        frontends(service).find_map(|frontend| {
            let owner = self.frontends.get(&frontend)?;
            let (address, port, transport) = frontend;
            Some(format!("its address {address} port {port}/{transport} belongs to {owner}"))
        })
    }
}

fn frontends(service: &ServiceSpec) -> impl Iterator<Item = (IpAddr, u16, Transport)> {
    service.addresses.iter().flat_map(|&address| {
        let ports = service.ports.iter();
        ports.map(move |port| (address, port.port.get(), port.protocol.transport()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OnAgentFailure, PathChoice, Port, Protocol};

    fn service(name: &str, address: &str, hostname: &str) -> ServiceSpec {
        ServiceSpec {
            name: ServiceName::new(name),
            addresses: vec![address.parse().unwrap()],
            hostnames: vec![hostname.to_owned()],
            ports: vec![Port { port: 80.try_into().unwrap(), protocol: Protocol::Tcp }],
            path: PathChoice::Auto,
            on_agent_failure: OnAgentFailure::Open,
            static_instances: Vec::new(),
            sources: Vec::new(),
            routes: Vec::new(),
            policy: Arc::default(),
        }
    }

    #[test]
    fn the_file_comes_first_and_who_claims_the_same_is_left_out_whole() {
        let file = [service("a", "10.96.0.1", "a.default.svc")];
        let cluster = vec![
            service("a", "10.96.0.2", "x"),
            service("b.default", "10.96.0.1", "b"),
            service("c.default", "10.96.0.3", "a.default.svc"),
            service("d.default", "10.96.0.4", "d"),
            // Two of the cluster's: the first stays.
            service("e.default", "10.96.0.4", "e"),
        ];
        let (services, left_out) = compose(&file.map(Arc::new), cluster);
        let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a", "d.default"]);
        let expected = [
            ("a", "the file has a service of that name"),
            ("b.default", "its address 10.96.0.1 port 80/tcp belongs to a"),
            ("c.default", "its hostname a.default.svc belongs to a"),
            ("e.default", "its address 10.96.0.4 port 80/tcp belongs to d.default"),
        ];
        let expected = expected.map(|(name, why)| (ServiceName::new(name), why.to_owned()));
        assert_eq!(left_out, expected.into());
    }
}
