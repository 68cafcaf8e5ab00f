//! Where instances come from.

use std::{net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use super::{Instance, KubernetesSource, Locality, ServiceName, Weight};

/// One entry of `endpoints` that is looked up again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Dns(DnsSource),
    Http(HttpSource),
    Kubernetes(KubernetesSource),
}

/// What a source says of its service now, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    pub service: ServiceName,
    /// Which of the service's sources.
    pub source: usize,
    pub instances: Arc<[Instance]>,
}

/// `endpoints.dns`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSource {
    pub name: String,
    pub record: DnsRecord,
    /// Of A and AAAA answers; the service's port unless set.
    pub port: Option<NonZeroU16>,
    /// The system's resolvers unless set.
    pub server: Option<SocketAddr>,
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    /// Empty answers in a row after which the instances are removed.
    pub empty_after: u32,
    pub timeout: Duration,
    /// Of the instances it finds.
    pub locality: Locality,
    pub weight: Weight,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsRecord {
    /// A and AAAA.
    #[default]
    Address,
    Srv,
}

/// `endpoints.http`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// `http` only: TLS is not ours.
    pub url: String,
    pub format: HttpFormat,
    pub interval: Duration,
    pub timeout: Duration,
    pub headers: Vec<(String, String)>,
    /// Of a response, bytes.
    pub max_size: usize,
    /// As for DNS.
    pub empty_after: u32,
    pub locality: Locality,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpFormat {
    /// Prometheus' HTTP-SD.
    #[default]
    Prometheus,
    /// Consul's `/v1/health/service/…`, with blocking queries.
    Consul,
}

impl Source {
    /// `dns`, `http` or `kubernetes`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Http(_) => "http",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// What it asks for, to show.
    pub fn target(&self) -> &str {
        match self {
            Self::Dns(dns) => &dns.name,
            Self::Http(http) => &http.url,
            Self::Kubernetes(kubernetes) => &kubernetes.shown,
        }
    }
}

impl Default for DnsSource {
    fn default() -> Self {
        Self {
            name: String::new(),
            record: DnsRecord::default(),
            port: None,
            server: None,
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(300),
            empty_after: 3,
            timeout: Duration::from_secs(2),
            locality: Locality::default(),
            weight: Weight::default(),
        }
    }
}

impl Default for HttpSource {
    fn default() -> Self {
        Self {
            url: String::new(),
            format: HttpFormat::default(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            headers: Vec::new(),
            max_size: 4 << 20,
            empty_after: 3,
            locality: Locality::default(),
        }
    }
}
