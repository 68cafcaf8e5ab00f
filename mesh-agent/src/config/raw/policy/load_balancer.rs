//! `policy.loadBalancer`, `sessionAffinity` and `slowStart`: which instance is next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        raw::{
            same::same,
            section::{Over, factor, ratio, section, values},
        },
        text::{Duration, HashOn, Percent},
    },
    model::{self, Policy, SlowStart as Model},
};

/// How the next instance is chosen.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LoadBalancer {
    /// The name alone.
    Name(Algorithm),
    /// In full.
    Full(FullLoadBalancer),
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

section! {
    /// How the next instance is chosen.
    pub struct FullLoadBalancer {
        /// How the next instance is chosen.
        algorithm: Algorithm = Algorithm::default(),
        /// What `consistentHash` hashes. Only `source` on the kernel path and for TCP; it also stands in where a request lacks the header or cookie.
        hash_on: HashOn = HashOn(Policy::default().hash_on),
    }

    /// Keeps a client with the instance that it used last.
    pub struct SessionAffinity {
        /// By the client's address.
        #[serde(rename = "clientIP")]
        client_ip: ClientIp,
    }

    /// By the client's address.
    pub struct ClientIp {
        /// A client that was silent for so long is balanced anew.
        timeout: Duration = Duration(Policy::AFFINITY),
    }

    /// A new instance gets its share little by little: weight · max(minWeight, (age / window)^(1 / aggression)).
    pub struct SlowStart {
        /// After which it has its full share.
        window: Duration = Duration(Model::default().window),
        /// 1 is linear; above 1 faster at first.
        #[schemars(range(min = 0.1, max = 10.0))]
        aggression: f64 = factor(Model::default().aggression),
        /// What it starts with, of its weight.
        min_weight: Percent = Percent(Model::default().min_weight),
    }
}

values! { Algorithm }
same! { Algorithm = Algorithm { RoundRobin Random Weighted LeastConnections LeastResponseTime ConsistentHash } }

impl LoadBalancer {
    pub fn full(&self) -> FullLoadBalancer {
        match self {
            Self::Name(algorithm) => {
                FullLoadBalancer { algorithm: Some(*algorithm), hash_on: None }
            }
            Self::Full(full) => full.clone(),
        }
    }
}

impl Over for LoadBalancer {
    fn over(&self, defaults: &Self) -> Self {
        Self::Full(self.full().over(&defaults.full()))
    }
}

impl FullLoadBalancer {
    pub fn model(&self) -> (model::Algorithm, model::HashOn) {
        let algorithm = self.algorithm.unwrap_or_default().into();
        let hash_on = self.hash_on.clone().map_or_else(model::HashOn::default, |hash| hash.0);
        (algorithm, hash_on)
    }
}

impl SessionAffinity {
    pub fn model(&self) -> std::time::Duration {
        let timeout = self.client_ip.as_ref().and_then(|client| client.timeout);
        timeout.map_or(Policy::AFFINITY, |timeout| timeout.0)
    }
}

impl SlowStart {
    pub fn model(&self) -> Model {
        let fallback = Model::default();
        Model {
            window: self.window.map_or(fallback.window, |window| window.0),
            aggression: self.aggression.map_or(fallback.aggression, ratio),
            min_weight: self.min_weight.map_or(fallback.min_weight, |percent| percent.0),
        }
    }
}
