//! How the connections of a service are treated in the kernel. The agent
//! replaces a policy whole; the hooks only read it.

/// Tiers whose ejected backends are counted apart; farther ones share the last.
pub const MAX_TIERS: usize = 8;

/// Steps of [`Policy::slow_start`].
pub const SLOW_START_STEPS: usize = 16;

/// How many rate limits a service can have in the kernel.
pub const MAX_RATES: usize = 4;

/// The value of the policies map, by service id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// [`flag`]
    pub flags: u32,
    /// Failures in a row that eject: to connect, and of responses.
    pub connect_failures: u32,
    pub response_failures: u32,
    /// How long a SYN may go unanswered; 0 leaves the socket as it is.
    pub syn_timeout_ms: u32,
    /// When the first SYN is repeated, in the kernel's ticks; 0: as always.
    pub syn_repeat_ticks: u32,
    /// How long sent data may stay unacknowledged; 0 leaves it as it is.
    pub user_timeout_ms: u32,
    /// The first exile, and the longest.
    pub eject_base_ns: u64,
    pub eject_max_ns: u64,
    /// How long the one connection that tries an ejected backend may take.
    pub probe_ns: u64,
    /// A request unanswered for this long is a failure when its connection
    /// closes, if its backend ever answered one; 0 for never.
    pub response_timeout_ns: u64,
    /// How many backends of each tier may be ejected at a time.
    pub max_ejected: [u32; MAX_TIERS],
    /// A client keeps its backend until it is silent for this long; 0: never.
    pub affinity_ns: u64,
    /// How long a backend that comes into service starts slowly; 0: not at all.
    pub slow_start_ns: u64,
    /// Its share of its turns in each part of that time, in 65,536ths.
    pub slow_start: [u16; SLOW_START_STEPS],
    /// New connections must pass all of them.
    pub rates: [Rate; MAX_RATES],
    /// Live connections to all backends together; 0 for no limit.
    pub max_connections: u64,
    /// Bytes per second from and to clients; 0 for no limit.
    pub upload: u64,
    pub download: u64,
}

/// A rate limit, in GCRA's terms.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Between two connections at the even rate, ns; 0: no limit.
    pub interval_ns: u64,
    /// How far ahead of the even rate a client may be, ns: the burst.
    pub tolerance_ns: u64,
    /// [`rate_flag`]
    pub flags: u32,
    pub zero: u32,
}

/// Bits of [`Policy::flags`].
pub mod flag {
    /// Backends that fail are ejected.
    pub const EJECT: u32 = 1;
    /// Each client's workload has its own bandwidth.
    pub const BANDWIDTH_BY_CLIENT: u32 = 1 << 1;
    /// Each backend has a limit of live connections that follows its response
    /// time.
    pub const ADAPTIVE: u32 = 1 << 2;
    /// Payload may go past TCP where both ends are on this node.
    pub const BYPASS: u32 = 1 << 3;
}

/// Bits of [`Rate::flags`].
pub mod rate_flag {
    /// Each client's workload has its own.
    pub const BY_CLIENT: u32 = 1;
    /// Counts what it would refuse, and refuses nothing.
    pub const DRY_RUN: u32 = 1 << 1;
}

crate::plain_bytes!(Policy, Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Rate>(), align_of::<Rate>()), (24, 8));
        assert_eq!((size_of::<Policy>(), align_of::<Policy>()), (256, 8));
    }
}
