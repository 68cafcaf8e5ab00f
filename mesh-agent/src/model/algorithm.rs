//! How the next instance is chosen.

use std::{fmt, sync::Arc, time::Duration};

use super::{Percent, Ratio};

/// `loadBalancer.algorithm`; docs/load-balancing.md says exactly what each means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// In turn, by weight, spread without bursts.
    #[default]
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// By weight, in turn; the name says that weights are meant to differ.
    Weighted,
    /// Of two by chance, the one with fewer in flight for its weight.
    LeastConnections,
    /// Of two by chance, the one with the lower peak of response time for its
    /// weight and what is pending.
    LeastResponseTime,
    /// The same client, or key, to the same instance (Maglev).
    ConsistentHash,
}

impl Algorithm {
    pub const ALL: [Self; 6] = [
        Self::RoundRobin,
        Self::Random,
        Self::Weighted,
        Self::LeastConnections,
        Self::LeastResponseTime,
        Self::ConsistentHash,
    ];

    /// The name in configuration, commands and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundRobin",
            Self::Random => "random",
            Self::Weighted => "weighted",
            Self::LeastConnections => "leastConnections",
            Self::LeastResponseTime => "leastResponseTime",
            Self::ConsistentHash => "consistentHash",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What `consistentHash` hashes: `loadBalancer.hashOn`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashOn {
    /// The client's own address. The only one on the kernel path.
    #[default]
    Source,
    /// The request's path, without the query.
    Path,
    /// A header's value; the source where it is missing. Lower case.
    Header(Arc<str>),
    /// A cookie's value; the source where it is missing.
    Cookie(Arc<str>),
}

/// `slowStart`: a new or returning instance gets its share little by little:
/// weight · max(min, (age / window)^(1 / aggression)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    pub window: Duration,
    /// Above zero.
    pub aggression: Ratio,
    pub min_weight: Percent,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: Duration::from_secs(30), aggression: Ratio::ONE, min_weight: Percent(10) }
    }
}

/// `policy.locality`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalityPolicy {
    pub mode: LocalityMode,
    /// A tier keeps all its traffic while healthy · this ≥ its size.
    pub overprovisioning: Ratio,
    /// Below this healthy share of all tiers, all instances are used.
    pub panic_threshold: Percent,
}

impl Default for LocalityPolicy {
    fn default() -> Self {
        Self {
            mode: LocalityMode::Failover,
            overprovisioning: Ratio { thousandths: 1400 },
            panic_threshold: Percent(50),
        }
    }
}

/// `policy.locality.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LocalityMode {
    /// Nearer tiers first; what they can't carry spills to the next.
    #[default]
    Failover,
    /// The nearest tier that has any available instance takes all.
    Prefer,
    /// The nearest tier only, even where nothing in it is available.
    Strict,
    /// All instances alike, wherever they are.
    Off,
}
