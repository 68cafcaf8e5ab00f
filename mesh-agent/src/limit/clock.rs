//! Instants as numbers, which fit into an atomic.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// An hour before it was first asked for, so that no instant of this process
/// comes before it.
static ORIGIN: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

/// Nanoseconds since a moment that stays the same while the process lives.
pub fn nanos(now: Instant) -> u64 {
    duration_nanos(now.saturating_duration_since(*ORIGIN))
}

pub fn duration_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The instant of a number that [`nanos`] gave.
pub fn instant(nanos: u64) -> Instant {
    *ORIGIN + Duration::from_nanos(nanos)
}
