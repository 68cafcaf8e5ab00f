//! How the next instance is chosen.

use std::fmt;

/// `loadBalancer.algorithm`; docs/load-balancing.md says exactly what each means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// In turn, by weight, spread without bursts.
    #[default]
    RoundRobin,
    /// By chance, by weight.
    Random,
}

impl Algorithm {
    /// The name in configuration, commands and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundRobin",
            Self::Random => "random",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
