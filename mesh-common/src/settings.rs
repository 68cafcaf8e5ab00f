//! What the agent tells the hooks, and may change while they run.

use crate::{exclude::Exclude, selective::Selective};

/// How many cgroups may be excluded.
pub const MAX_EXCLUDES: usize = 16;

/// The single value of the settings map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A heartbeat older than this means that the agent is gone.
    pub stale_after_ns: u64,
    /// Mark of the agent's own sockets, which pass untouched.
    pub mark: u32,
    pub proxy_port_be: u16,
    /// Port of the agent's DNS listener; 0 where DNS is left alone.
    pub dns_port_be: u16,
    /// What the hooks log, as `log::Level`: 0 nothing, 1 error … 5 trace.
    pub log_level: u32,
    pub excludes: u32,
    pub exclude: [Exclude; MAX_EXCLUDES],
    pub selective: Selective,
}

crate::plain_bytes!(Settings);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Settings>(), align_of::<Settings>()), (40 + 16 * MAX_EXCLUDES, 8));
    }
}
