//! Moments as numbers, so that they can stand in atomics.

use std::sync::LazyLock;

use tokio::time::Instant;

/// What moments are counted from. Well before the first of them, so that none
/// is zero.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since a moment before the first call; never 0, which elsewhere
/// stands for "never".
pub fn nanos(at: Instant) -> u64 {
    let epoch = *EPOCH;
    1 + u64::try_from(at.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX - 1)
}
