//! The agent's sign of life, which the hooks check before they send it anything.

use aya::maps::{Array, MapData};
use nix::time::{ClockId, clock_gettime};

/// Writes the heartbeat.
pub struct Heartbeat(pub(super) Array<MapData, u64>);

impl Heartbeat {
    /// How often it is to be written.
    pub const PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

    pub fn beat(&mut self) -> anyhow::Result<()> {
        self.0.set(0, monotonic_ns()?, 0)?;
        Ok(())
    }

    /// From now on the hooks leave the agent out, without waiting for the
    /// heartbeat to grow stale.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.0.set(0, 0, 0)?;
        Ok(())
    }
}

/// The clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> nix::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
