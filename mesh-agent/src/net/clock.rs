//! The clock that agent and hooks share.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: the time of `bpf_ktime_get_ns`, so moments
/// that the hooks report can be compared with the agent's own.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// The same clock as of the last tick, some milliseconds ago: five times as
/// cheap, for what is counted in seconds.
pub fn coarse_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("every Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
