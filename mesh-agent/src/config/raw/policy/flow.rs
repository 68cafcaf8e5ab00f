//! `policy.rateLimit`, `bandwidth`, `adaptiveConcurrency` and `connections`:
//! how much is let through.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        raw::section::{factor, ratio, section, values},
        text::{Duration, LimitBy, Percent, Size},
    },
    model::{self, AdaptiveConcurrency as Adaptive},
};

section! {
    /// How many requests are let through (GCRA); for TCP and on the kernel path, new connections.
    #[schemars(extend("required" = ["requests"]))]
    pub struct RateLimit {
        /// So many in each `per`.
        #[schemars(range(min = 1, max = 1_000_000_000))]
        requests: u32,
        /// The time that `requests` are counted for.
        per: Duration = Duration(model::RateLimit::PER),
        /// How many above the even rate are let through at once; as many as `requests` unless set.
        #[schemars(range(min = 0, max = 1_000_000_000))]
        burst: u32,
        /// Whose requests are added up: all of the service's, those of each client workload, or those with the same value of a header.
        by: LimitBy = LimitBy(model::LimitBy::default()),
        /// Counts what it would refuse, and refuses nothing.
        dry_run: bool = false,
    }

    /// Bytes per second that all connections together may move; at least one of the two directions.
    pub struct Bandwidth {
        /// From clients to instances, per second.
        upload: Size,
        /// From instances to clients, per second.
        download: Size,
        /// Whose bytes are added up.
        by: BandwidthBy = BandwidthBy::Service,
    }

    /// Limits what is under way by the response time; `{}` turns it on.
    pub struct AdaptiveConcurrency {
        /// How far above its minimum the response time may be.
        buffer: Percent = Percent(Adaptive::default().buffer),
        /// The limit never falls below this.
        #[schemars(range(min = 1, max = 1_000_000))]
        min: u32 = Adaptive::default().min,
        /// Nor rises above this.
        #[schemars(range(min = 1, max = 1_000_000))]
        max: u32 = Adaptive::default().max,
        /// Between two computations of the limit.
        interval: Duration = Duration(Adaptive::default().interval),
        /// Over which the minimum of the response time is taken.
        window: Duration = Duration(Adaptive::default().window),
        /// With fewer samples the limit stays.
        #[schemars(range(min = 1, max = 1_000_000))]
        min_samples: u32 = Adaptive::default().min_samples,
        /// How much of the new limit counts; the rest is the old one.
        #[schemars(range(min = 0.01, max = 1.0))]
        smoothing: f64 = factor(Adaptive::default().smoothing),
    }

    /// Circuit breaking; unlimited unless set.
    pub struct Connections {
        /// Connections to all instances together.
        #[schemars(range(min = 1, max = 1_000_000_000))]
        max: u32,
        /// Requests that wait for a connection.
        #[schemars(range(min = 0, max = 1_000_000_000))]
        max_pending: u32,
        /// Requests under way.
        #[schemars(range(min = 1, max = 1_000_000_000))]
        max_requests: u32,
    }
}

/// Whose bytes are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BandwidthBy {
    /// All of the service's.
    Service,
    /// Those of each client workload by itself.
    Client,
}

values! { BandwidthBy }

impl RateLimit {
    /// `None` where `requests` is missing, which has been reported.
    pub fn model(&self) -> Option<model::RateLimit> {
        let requests = self.requests?;
        Some(model::RateLimit {
            requests,
            per: self.per.map_or(model::RateLimit::PER, |per| per.0),
            burst: self.burst.unwrap_or(requests),
            by: self.by.clone().map_or_else(model::LimitBy::default, |by| by.0),
            dry_run: self.dry_run.unwrap_or(false),
        })
    }
}

impl Bandwidth {
    pub fn model(&self) -> model::Bandwidth {
        let rate = |size: Option<Size>| size.and_then(|size| (size.0 as u64).try_into().ok());
        model::Bandwidth {
            upload: rate(self.upload),
            download: rate(self.download),
            by_client: self.by == Some(BandwidthBy::Client),
        }
    }
}

impl AdaptiveConcurrency {
    pub fn model(&self) -> Adaptive {
        let fallback = Adaptive::default();
        Adaptive {
            buffer: self.buffer.map_or(fallback.buffer, |percent| percent.0),
            min: self.min.unwrap_or(fallback.min),
            max: self.max.unwrap_or(fallback.max),
            interval: self.interval.map_or(fallback.interval, |interval| interval.0),
            window: self.window.map_or(fallback.window, |window| window.0),
            min_samples: self.min_samples.unwrap_or(fallback.min_samples),
            smoothing: self.smoothing.map_or(fallback.smoothing, ratio),
        }
    }
}

impl Connections {
    pub fn model(&self) -> model::ConnectionLimits {
        model::ConnectionLimits {
            max: self.max,
            max_pending: self.max_pending,
            max_requests: self.max_requests,
        }
    }
}
