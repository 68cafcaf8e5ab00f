//! Numbers of the configuration that aren't plain counts.

use std::fmt;

/// A share, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// A factor, in thousandths, so that settings can be compared exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ratio {
    pub thousandths: u32,
}

impl Percent {
    /// 0.0 to 1.0.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl Ratio {
    pub const ONE: Self = Self { thousandths: 1000 };

    pub fn factor(self) -> f64 {
        f64::from(self.thousandths) / 1000.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.factor())
    }
}
