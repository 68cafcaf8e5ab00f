//! What the agent tells the hooks, and may change while they run.

use crate::{bypass::Counts, exclude::Exclude, selective::Selective};

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
    /// Until then somebody watches connections, by the kernel's clock: each is
    /// reported. A time and not a flag, so that it ends with the agent, however
    /// that ends. 0 while nobody watches.
    pub tapped_until_ns: u64,
    /// Zeros where nothing may go past TCP.
    pub counts: Counts,
}

impl Settings {
    /// Whether each connection is to be reported.
    #[inline(always)]
    pub fn is_tapped(&self, now_ns: u64) -> bool {
        now_ns < self.tapped_until_ns
    }
}

crate::plain_bytes!(Settings);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_end_with_the_one_who_watches() {
        let settings = Settings { tapped_until_ns: 10, ..Settings::default() };
        assert!(settings.is_tapped(9));
        assert!(!settings.is_tapped(10));
        assert!(!Settings::default().is_tapped(0));
    }

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Settings>(), align_of::<Settings>()), (64 + 16 * MAX_EXCLUDES, 8));
    }
}
