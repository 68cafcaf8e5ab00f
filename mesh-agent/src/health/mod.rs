//! Which instances are well: passive ejection by what traffic meets, and
//! active checks.
//!
//! One rule combines all that is known. An instance is *available* where
//!
//! 1. a discovery source names it as ready, with a weight above 0, and
//! 2. it isn't drained by hand, and
//! 3. its active check, if there is one, doesn't find it unhealthy (before the
//!    first verdict it counts as healthy), and
//! 4. it isn't ejected.
//!
//! Each of them alone takes it out; none overrules another. An exile ends by
//! one probe, which is a live request or an active check, whichever comes
//! first; while the check finds it unhealthy, no request probes it.
//!
//! Decisions are pure: time and randomness come in as arguments.

mod check;
mod instance;
mod outliers;
mod rules;

pub use check::{CheckError, Checker};
pub use instance::{Cause, Health, Probe, State, Verdict};
pub use outliers::{Outcome, Outliers, Tier};
pub use rules::Rules;

#[cfg(test)]
mod tests;
