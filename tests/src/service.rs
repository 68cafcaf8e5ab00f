//! A service of the configuration file.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::pod::Pod;

/// One entry of `services`; its `Display` is the YAML.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    /// Last part of its virtual addresses.
    pub number: u8,
    pub port: u16,
    pub protocol: &'static str,
    pub path: &'static str,
    pub instances: Vec<SocketAddr>,
    /// Further lines, such as `onAgentFailure: closed`.
    pub more: &'static str,
}

impl Service {
    /// A service on port 80 whose instances are ports of pods, both families.
    pub fn new<'a>(
        name: &str,
        number: u8,
        (protocol, path): (&'static str, &'static str),
        pods: impl IntoIterator<Item = &'a Pod>,
        target: u16,
    ) -> Self {
        let instances = pods
            .into_iter()
            .flat_map(|pod| pod.ips().map(|address| SocketAddr::new(address, target)))
            .collect();
        Self { name: name.to_owned(), number, port: 80, protocol, path, instances, more: "" }
    }

    /// Its YAML with another policy than the usual one, a mapping such as
    /// `{timeout: {connect: 1s}}`.
    pub fn under(&self, policy: &str) -> String {
        let yaml = self.to_string();
        let (before, _) = yaml.split_once("    policy:").expect("a service ends with its policy");
        format!("{before}    policy: {policy}\n")
    }

    /// Its virtual IPv4 address, which nobody in the world has.
    pub fn ip4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, 0, self.number)
    }

    /// Its virtual IPv6 address.
    pub fn ip6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Its two virtual addresses with the port, as in a URL.
    pub fn authorities(&self) -> [String; 2] {
        [format!("{}:{}", self.ip4(), self.port), format!("[{}]:{}", self.ip6(), self.port)]
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port, protocol, path, .. } = self;
        writeln!(f, "  - name: {name}")?;
        writeln!(f, "    address: [{}, \"{}\"]", self.ip4(), self.ip6())?;
        writeln!(f, "    hostnames: [{name}, {name}.default.svc.cluster.local]")?;
        writeln!(f, "    ports: [{{port: {port}, protocol: {protocol}}}]")?;
        writeln!(f, "    path: {path}")?;
        if !self.more.is_empty() {
            writeln!(f, "    {}", self.more)?;
        }
        writeln!(f, "    endpoints:\n      static:")?;
        if self.instances.is_empty() {
            writeln!(f, "        []")?;
        }
        for instance in &self.instances {
            let (address, port) = (instance.ip(), instance.port());
            writeln!(f, "        - {{address: \"{address}\", port: {port}}}")?;
        }
        writeln!(f, "    policy: {{loadBalancer: {{algorithm: roundRobin}}}}")
    }
}
