//! Names and capacities of the maps.

/// Part of the path that maps and links are pinned under. Raised with every
/// change of a layout in this crate: maps of another version are never adopted.
pub const ABI_VERSION: u32 = 1;

pub const SETTINGS: &str = "SETTINGS";
pub const HEARTBEAT: &str = "HEARTBEAT";
pub const FRONTENDS: &str = "FRONTENDS";
pub const SLOTS: &str = "SLOTS";
pub const BACKENDS: &str = "BACKENDS";
pub const SERVICES: &str = "SERVICES";
pub const SOCKETS: &str = "SOCKETS";
pub const ORIGINALS: &str = "ORIGINALS";
/// Destinations of DNS queries, by the client's port.
pub const RESOLVERS: &str = "RESOLVERS";
pub const CONNECTIONS: &str = "CONNECTIONS";
pub const FLOWS: &str = "FLOWS";
pub const REVERSE: &str = "REVERSE";
pub const REASONS: &str = "REASONS";
pub const EVENTS: &str = "EVENTS";
/// What service ports let through, see [`crate::limits`].
pub const LIMITS: &str = "LIMITS";
pub const METERS: &str = "METERS";
/// Connections that share a bandwidth, see [`crate::pace`].
pub const GROUPS: &str = "GROUPS";
pub const PACED: &str = "PACED";
pub const ENDS: &str = "ENDS";

/// All of them, all pinned.
pub const ALL: [&str; 19] = [
    SETTINGS,
    HEARTBEAT,
    FRONTENDS,
    SLOTS,
    BACKENDS,
    SERVICES,
    SOCKETS,
    ORIGINALS,
    RESOLVERS,
    CONNECTIONS,
    FLOWS,
    REVERSE,
    REASONS,
    EVENTS,
    LIMITS,
    METERS,
    GROUPS,
    PACED,
    ENDS,
];

/// Capacities. Hash maps are allocated as they fill, except the LRU ones.
pub mod capacity {
    pub const FRONTENDS: usize = 65_536;
    pub const SLOTS: usize = 1_048_576;
    pub const BACKENDS: usize = 262_144;
    pub const SERVICES: usize = 65_536;
    pub const ORIGINALS: usize = 65_536;
    pub const RESOLVERS: usize = 4_096;
    pub const CONNECTIONS: usize = 262_144;
    pub const FLOWS: usize = 16_384;
    pub const REVERSE: usize = 16_384;
    pub const LIMITS: usize = SERVICES;
    pub const METERS: usize = 16_384;
    pub const GROUPS: usize = 16_384;
    pub const ENDS: usize = 4_096;
    /// Bytes.
    pub const EVENTS: usize = 1 << 20;
}
