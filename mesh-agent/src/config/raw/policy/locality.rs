//! `policy.locality`: which instances are near enough.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        raw::{
            same::same,
            section::{factor, ratio, section, values},
        },
        text::Percent,
    },
    model::{self, LocalityPolicy as Model},
};

/// What nearness does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LocalityMode {
    /// Nearer tiers first; what they can't carry spills to the next.
    Failover,
    /// The nearest tier that has any available instance takes all.
    Prefer,
    /// The nearest tier only, even where nothing in it is available.
    Strict,
    /// All instances alike, wherever they are.
    Off,
}

section! {
    /// Whether near instances come first: by the longest common start of cloud, region, zone, node.
    pub struct LocalityPolicy {
        /// What nearness does.
        mode: LocalityMode = LocalityMode::default(),
        /// A tier keeps all its traffic while its healthy share times this is at least 1.
        #[schemars(range(min = 1.0, max = 100.0))]
        overprovisioning: f64 = factor(Model::default().overprovisioning),
        /// With less than this healthy share in all tiers, all instances are used.
        panic_threshold: Percent = Percent(Model::default().panic_threshold),
    }
}

values! { LocalityMode }
same! { LocalityMode = LocalityMode { Failover Prefer Strict Off } }

impl LocalityPolicy {
    pub fn model(&self) -> Model {
        let fallback = Model::default();
        Model {
            mode: self.mode.unwrap_or_default().into(),
            overprovisioning: self.overprovisioning.map_or(fallback.overprovisioning, ratio),
            panic_threshold: self.panic_threshold.map_or(fallback.panic_threshold, |p| p.0),
        }
    }
}
