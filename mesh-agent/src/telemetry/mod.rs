//! What the agent says of itself: log lines and metrics.
//!
//! This module knows the names and the formats; the numbers are brought by
//! `app` at each scrape, straight from the state that serves. So a series of
//! something that is gone is gone from the next scrape, and nothing is counted
//! twice.

pub mod logs;
pub mod metrics;
mod table;

pub use logs::Logs;
pub use metrics::{Exposition, reference};
