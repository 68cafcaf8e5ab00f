//! What a service port on the kernel path lets through.

/// How many rate limits the hooks check for a service port.
pub const MAX_RATES: usize = 4;

/// Limits of one service port, by its id. Only ports that limit something have
/// an entry, so that the others pay one look-up that finds nothing.
///
/// Replaced whole by the agent. A hook that reads one while it is replaced may
/// decide once by a mixture of both, which a limit can bear.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes per second that clients may send; 0 for no limit.
    pub upload: u64,
    /// Bytes per second that instances may send.
    pub download: u64,
    /// Open connections, those under way included; 0 for no limit.
    pub max_connections: u32,
    /// 1 where `upload` and `download` are for each client's workload.
    pub bandwidth_by_client: u8,
    /// 1 where instances have a limit of their own: see [`crate::map::CONCURRENCY`].
    pub adaptive: u8,
    pub zero: u16,
    /// All must let a connection through; unused ones have an interval of 0.
    pub rates: [RateLimit; MAX_RATES],
}

/// New connections (UDP: flows) per time, by [`crate::gcra`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Between two that come evenly, ns; 0 for no limit.
    pub interval_ns: u64,
    /// How much too early one may come.
    pub tolerance_ns: u64,
    /// 1 where each client's workload has its own.
    pub by_client: u8,
    /// 1 to count what would be refused, and refuse nothing.
    pub dry_run: u8,
    pub zero: [u8; 6],
}

/// Whose theoretical arrival time it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeterKey {
    /// Of the client, for limits by client; else 0.
    pub netns: u64,
    pub service: u32,
    /// Index in [`Limits::rates`].
    pub rate: u32,
}

crate::plain_bytes!(Limits, RateLimit, MeterKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<RateLimit>(), align_of::<RateLimit>()), (24, 8));
        assert_eq!((size_of::<Limits>(), align_of::<Limits>()), (24 + 24 * MAX_RATES, 8));
        assert_eq!((size_of::<MeterKey>(), align_of::<MeterKey>()), (16, 8));
    }
}
