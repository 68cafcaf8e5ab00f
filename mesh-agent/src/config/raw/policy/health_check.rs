//! `policy.healthCheck`: the agent asks each instance.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        raw::section::{Over, section, values},
        text::{Duration, HeaderValue, Headers, RequestPath, StatusRange},
    },
    model::{HealthCheck as Model, Probe},
};

/// The agent asks each instance. One of `tcp`, `http` and `grpc` says how.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// It accepts a connection: `tcp: {}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// It answers a GET.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// The standard health service says SERVING.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// Between two questions to an instance, jittered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Duration(Model::default().interval)))]
    pub interval: Option<Duration>,
    /// For an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Duration(Model::default().timeout)))]
    pub timeout: Option<Duration>,
    /// Good answers in a row after which it is used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = Model::default().healthy))]
    pub healthy: Option<u8>,
    /// Bad answers in a row after which it isn't used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("default" = Model::default().unhealthy))]
    pub unhealthy: Option<u8>,
    /// The instance's own port unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
}

/// It accepts a connection; there is nothing to say about it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {}

section! {
    /// It answers a GET.
    pub struct HttpProbe {
        /// What is asked for.
        path: RequestPath = Probe::PATH,
        /// The `host` header; the instance's address unless set.
        host: HeaderValue,
        /// Statuses that are good.
        status: Statuses = "200-299",
        /// Sent with the question.
        headers: Headers,
    }

    /// The standard health service (grpc.health.v1) says SERVING.
    pub struct GrpcProbe {
        /// Which service to ask about; empty is the server as a whole.
        service: String = "",
    }
}

/// A status, or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Statuses {
    /// One.
    One(#[schemars(range(min = 100, max = 599))] u16),
    /// From … to.
    Range(StatusRange),
}

values! { Statuses TcpProbe }

impl HealthCheck {
    /// The probes that are written, by their keys.
    pub fn kinds(&self) -> Vec<&'static str> {
        let written = [
            ("tcp", self.tcp.is_some()),
            ("http", self.http.is_some()),
            ("grpc", self.grpc.is_some()),
        ];
        written.into_iter().filter_map(|(kind, is)| is.then_some(kind)).collect()
    }

    pub fn model(&self) -> Model {
        let fallback = Model::default();
        let probe = if let Some(http) = &self.http {
            http.model()
        } else if let Some(grpc) = &self.grpc {
            Probe::Grpc { service: grpc.service.clone().unwrap_or_default() }
        } else {
            Probe::Tcp
        };
        Model {
            probe,
            interval: self.interval.map_or(fallback.interval, |interval| interval.0),
            timeout: self.timeout.map_or(fallback.timeout, |timeout| timeout.0),
            healthy: self.healthy.map_or(fallback.healthy, u32::from),
            unhealthy: self.unhealthy.map_or(fallback.unhealthy, u32::from),
            port: self.port.or(fallback.port),
        }
    }
}

impl HttpProbe {
    fn model(&self) -> Probe {
        Probe::Http {
            path: self.path.as_ref().map_or(Probe::PATH, |path| &path.0).to_owned(),
            host: self.host.as_ref().map(|host| host.0.clone()),
            headers: self.headers.as_ref().map(Headers::texts).unwrap_or_default(),
            status: match self.status {
                Some(Statuses::One(status)) => (status, status),
                Some(Statuses::Range(range)) => range.0,
                None => Probe::STATUS,
            },
        }
    }
}

/// A service that asks in one way doesn't ask in the defaults' way too.
impl Over for HealthCheck {
    fn over(&self, defaults: &Self) -> Self {
        let keep = |kind: &str| match self.kinds().as_slice() {
            [] => true,
            kinds => kinds.contains(&kind),
        };
        let default = |kind| keep(kind).then_some(defaults);
        let none = Self::default();
        Self {
            tcp: self.tcp.over(&default("tcp").unwrap_or(&none).tcp),
            http: self.http.over(&default("http").unwrap_or(&none).http),
            grpc: self.grpc.over(&default("grpc").unwrap_or(&none).grpc),
            interval: self.interval.over(&defaults.interval),
            timeout: self.timeout.over(&defaults.timeout),
            healthy: self.healthy.over(&defaults.healthy),
            unhealthy: self.unhealthy.over(&defaults.unhealthy),
            port: self.port.over(&defaults.port),
        }
    }
}
