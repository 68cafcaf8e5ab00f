//! `endpoints.dns` and `endpoints.http`: instances that are looked up again and again.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Locality, same::same, section::section};
use crate::{
    config::text::{DomainName, Duration, Headers, Server, Size, Url},
    model::{self, DnsSource as Dns, HttpSource as Http},
};

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DnsRecord {
    /// Addresses of both families, as `AAAA`.
    A,
    /// Addresses of both families, as `A`.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Names and ports, with priority and weight.
    #[serde(rename = "SRV")]
    Srv,
}

section! {
    /// Instances that a DNS server names; every record is one.
    #[schemars(extend("required" = ["name"]))]
    pub struct DnsSource {
        /// What to look up.
        name: DomainName,
        /// Which records are asked for.
        #[serde(rename = "type")]
        record: DnsRecord = "A",
        /// Of the addresses found; the service's port unless set. SRV records bring their own.
        port: NonZeroU16,
        /// The server to ask; the system's resolvers unless set.
        server: Server,
        /// What the records' own time to live is kept to.
        ttl: Ttl,
        /// After so many empty answers in a row the instances are removed.
        #[schemars(range(min = 1, max = 1000))]
        empty_after: u32 = Dns::default().empty_after,
        /// For an answer.
        timeout: Duration = Duration(Dns::default().timeout),
        /// Where the instances are.
        locality: Locality,
        /// Of each instance; SRV records bring their own.
        weight: u16 = Dns::default().weight.0,
    }

    /// What the records' own time to live is kept to.
    pub struct Ttl {
        /// No record is asked for more often.
        min: Duration = Duration(Dns::default().ttl_min),
        /// No record is kept longer.
        max: Duration = Duration(Dns::default().ttl_max),
    }

    /// Instances that an HTTP server lists.
    #[schemars(extend("required" = ["url"]))]
    pub struct HttpSource {
        /// What to ask for; plain `http://`.
        url: Url,
        /// What it answers with.
        format: HttpFormat = HttpFormat::default(),
        /// Between two questions, jittered.
        interval: Duration = Duration(Http::default().interval),
        /// For an answer.
        timeout: Duration = Duration(Http::default().timeout),
        /// Sent with the question.
        headers: Headers,
        /// The longest answer that is read, 1KiB to 64MiB.
        max_size: Size = Size(Http::default().max_size),
        /// After so many empty answers in a row the instances are removed.
        #[schemars(range(min = 1, max = 1000))]
        empty_after: u32 = Http::default().empty_after,
        /// Where the instances are, unless the answer says so.
        locality: Locality,
    }
}

/// What an HTTP server answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HttpFormat {
    /// Prometheus' HTTP service discovery: `[{"targets": […], "labels": {…}}]`.
    Prometheus,
    /// Consul's `/v1/health/service/…`, with blocking queries.
    Consul,
}

super::section::values! { DomainName DnsRecord Server Locality Url HttpFormat }
same! { HttpFormat = HttpFormat { Prometheus Consul } }

impl DnsSource {
    /// `None` where the name is missing, which has been reported.
    pub fn model(&self) -> Option<Dns> {
        let fallback = Dns::default();
        let ttl = self.ttl.clone().unwrap_or_default();
        Some(Dns {
            name: self.name.as_ref()?.0.clone(),
            record: match self.record {
                Some(DnsRecord::Srv) => model::DnsRecord::Srv,
                Some(DnsRecord::A | DnsRecord::Aaaa) => model::DnsRecord::Address,
                None => fallback.record,
            },
            port: self.port.or(fallback.port),
            server: self.server.map(|server| server.0).or(fallback.server),
            ttl_min: ttl.min.map_or(fallback.ttl_min, |min| min.0),
            ttl_max: ttl.max.map_or(fallback.ttl_max, |max| max.0),
            empty_after: self.empty_after.unwrap_or(fallback.empty_after),
            timeout: self.timeout.map_or(fallback.timeout, |timeout| timeout.0),
            locality: self.locality.clone().map_or(fallback.locality, Into::into),
            weight: self.weight.map_or(fallback.weight, model::Weight),
        })
    }
}

impl HttpSource {
    /// `None` where the URL is missing, which has been reported.
    pub fn model(&self) -> Option<Http> {
        let fallback = Http::default();
        Some(Http {
            url: self.url.as_ref()?.0.clone(),
            format: self.format.map_or(fallback.format, Into::into),
            interval: self.interval.map_or(fallback.interval, |interval| interval.0),
            timeout: self.timeout.map_or(fallback.timeout, |timeout| timeout.0),
            headers: self.headers.as_ref().map_or(fallback.headers, Headers::texts),
            max_size: self.max_size.map_or(fallback.max_size, |size| size.0),
            empty_after: self.empty_after.unwrap_or(fallback.empty_after),
            locality: self.locality.clone().map_or(fallback.locality, Into::into),
        })
    }
}
