//! What became of the queries.

use std::sync::atomic::AtomicU64;

/// Counters over all namespaces, for the metrics.
#[derive(Debug, Default)]
pub struct DnsStats {
    /// Answered from the snapshot.
    pub answered: AtomicU64,
    /// Sent to the resolver that was asked.
    pub forwarded: AtomicU64,
    /// No resolver was known or could be asked, or it didn't answer in time.
    pub failed: AtomicU64,
    /// Refused because too many others were under way: datagrams and TCP
    /// connections.
    pub dropped: AtomicU64,
}
