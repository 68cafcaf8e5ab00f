//! Whether the hooks report connections.

use std::time::Duration;

use anyhow::Context as _;

use super::Tables;
use crate::datapath::heartbeat::monotonic_ns;

/// How long the hooks go on without being told again. They would report to
/// nobody after that: the agent is gone.
const LEASE: Duration = Duration::from_secs(2);

impl Tables {
    /// Has the hooks report each connection, or no longer. To be told again and
    /// again while it is on.
    pub fn report_connections(&mut self, on: bool) -> anyhow::Result<()> {
        let lease = LEASE.as_nanos() as u64;
        let until = match on {
            false => 0,
            true => {
                let now = monotonic_ns()?;
                if self.tapped_until_ns > now + lease / 2 {
                    return Ok(());
                }
                now + lease
            }
        };
        if until == self.tapped_until_ns {
            return Ok(());
        }
        let mut value = self.settings.get(&0, 0).context("reading the settings map")?;
        value.tapped_until_ns = until;
        self.settings.set(0, value, 0).context("writing the settings map")?;
        self.tapped_until_ns = until;
        Ok(())
    }
}
