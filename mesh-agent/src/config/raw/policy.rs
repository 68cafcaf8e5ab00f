//! How a service's traffic is treated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{config::text::Duration, model};

/// What services get that don't say otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// Merged under the policy of every service, key by key.
    pub policy: Policy,
}

/// How the traffic of a service is treated.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// How the next instance is chosen: the algorithm's name, or a mapping with the key `algorithm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Algorithm::from(model::Policy::default().algorithm)))]
    pub load_balancer: Option<LoadBalancer>,
    /// How long things may take.
    pub timeout: Timeout,
}

/// How the next instance is chosen.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LoadBalancer {
    /// The name alone.
    Name(Algorithm),
    /// In full.
    Full(FullLoadBalancer),
}

/// How the next instance is chosen.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FullLoadBalancer {
    /// How the next instance is chosen.
    #[schemars(required)]
    pub algorithm: Option<Algorithm>,
}

/// How the next instance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// In turn, by weight, spread without bursts.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// By weight, in turn; for weights that differ.
    Weighted,
    /// Of two by chance, the one with fewer in flight for its weight.
    LeastConnections,
    /// Of two by chance, the one that has answered faster.
    LeastResponseTime,
    /// The same client, or key, to the same instance.
    ConsistentHash,
}

/// How long things may take.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeout {
    /// Each attempt to connect to an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Duration(model::Timeouts::CONNECT_RANGE.1)))]
    pub connect: Option<Duration>,
    /// From the whole head of a request to the whole response; `0s` is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Duration(model::Timeouts::default().request.unwrap_or_default())))]
    pub request: Option<Duration>,
    /// A connection on which nothing moves, in either direction, for this long is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Duration(model::Timeouts::default().idle)))]
    pub idle: Option<Duration>,
}

impl LoadBalancer {
    pub fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Name(algorithm) => Some(algorithm),
            Self::Full(full) => full.algorithm,
        }
    }
}

impl Policy {
    /// `self` where it says something, then `defaults`, then the model's.
    pub fn over(&self, defaults: &Self) -> model::Policy {
        let fallback = model::Policy::default();
        let algorithm = |policy: &Self| policy.load_balancer.and_then(LoadBalancer::algorithm);
        let timeout = |key: fn(&Timeout) -> Option<Duration>| {
            key(&self.timeout).or_else(|| key(&defaults.timeout)).map(|duration| duration.0)
        };
        model::Policy {
            algorithm: algorithm(self)
                .or_else(|| algorithm(defaults))
                .map_or(fallback.algorithm, model::Algorithm::from),
            timeouts: model::Timeouts {
                connect: timeout(|t| t.connect).or(fallback.timeouts.connect),
                request: timeout(|t| t.request)
                    .or(fallback.timeouts.request)
                    .filter(|limit| !limit.is_zero()),
                idle: timeout(|t| t.idle).unwrap_or(fallback.timeouts.idle),
            },
            ..fallback
        }
    }
}

impl From<Algorithm> for model::Algorithm {
    fn from(raw: Algorithm) -> Self {
        match raw {
            Algorithm::RoundRobin => Self::RoundRobin,
            Algorithm::Random => Self::Random,
            Algorithm::Weighted => Self::Weighted,
            Algorithm::LeastConnections => Self::LeastConnections,
            Algorithm::LeastResponseTime => Self::LeastResponseTime,
            Algorithm::ConsistentHash => Self::ConsistentHash,
        }
    }
}

impl From<model::Algorithm> for Algorithm {
    fn from(model: model::Algorithm) -> Self {
        match model {
            model::Algorithm::RoundRobin => Self::RoundRobin,
            model::Algorithm::Random => Self::Random,
            model::Algorithm::Weighted => Self::Weighted,
            model::Algorithm::LeastConnections => Self::LeastConnections,
            model::Algorithm::LeastResponseTime => Self::LeastResponseTime,
            model::Algorithm::ConsistentHash => Self::ConsistentHash,
        }
    }
}
