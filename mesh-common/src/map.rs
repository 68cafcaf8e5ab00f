//! Names and capacities of the maps.

/// Part of the path that maps and links are pinned under. Raised with every
/// change of a layout in this crate: maps of another version are never adopted.
pub const ABI_VERSION: u32 = 8;

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
/// How each service's connections are treated.
pub const POLICIES: &str = "POLICIES";
/// How many backends of a tier are ejected now.
pub const TIERS: &str = "TIERS";
/// Maglev tables of consistent hashing.
pub const LOOKUPS: &str = "LOOKUPS";
/// Which backend a client keeps to.
pub const AFFINITIES: &str = "AFFINITIES";
/// What a client's workload is hashed by: its address, by namespace.
pub const CLIENTS: &str = "CLIENTS";
/// Where rate limits by client stand.
pub const METERS: &str = "METERS";
/// How many connections each backend may have open, where that follows its
/// response time; by backend id.
pub const CONCURRENCY: &str = "CONCURRENCY";
/// Connections that share a bandwidth, see [`crate::pace`].
pub const GROUPS: &str = "GROUPS";
/// What a paced socket carries.
pub const PACED: &str = "PACED";
/// Which group a connection belongs to, for the instance's end.
pub const ENDS: &str = "ENDS";
/// Pods that are captured, by the id of their cgroup, see [`crate::selective`].
pub const CAPTURED: &str = "CAPTURED";
/// Which backends a client could not connect to, see [`crate::unreached`].
pub const UNREACHED: &str = "UNREACHED";
/// Addresses of captured pods of this node, without a port: the cookie of the
/// network namespace that has it, or 0 where several say so.
pub const NEIGHBOURS: &str = "NEIGHBOURS";
/// Sockets whose payload goes past TCP, see [`crate::bypass`].
pub const ENDPOINTS: &str = "ENDPOINTS";
/// What the two ends of a bypassed connection share.
pub const PAIRS: &str = "PAIRS";

/// All of them, all pinned.
pub const ALL: [&str; 29] = [
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
    POLICIES,
    TIERS,
    LOOKUPS,
    AFFINITIES,
    CLIENTS,
    METERS,
    CONCURRENCY,
    GROUPS,
    PACED,
    ENDS,
    CAPTURED,
    UNREACHED,
    NEIGHBOURS,
    ENDPOINTS,
    PAIRS,
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
    pub const POLICIES: usize = SERVICES;
    pub const TIERS: usize = 65_536;
    /// Chunks: about 500 tables.
    pub const LOOKUPS: usize = 65_536;
    pub const AFFINITIES: usize = 65_536;
    pub const CLIENTS: usize = 16_384;
    pub const METERS: usize = 16_384;
    pub const CONCURRENCY: usize = BACKENDS;
    pub const GROUPS: usize = 16_384;
    pub const ENDS: usize = 4_096;
    /// A node has a few hundred pods at most.
    pub const CAPTURED: usize = 4_096;
    pub const UNREACHED: usize = 16_384;
    pub const NEIGHBOURS: usize = CAPTURED * 4;
    pub const ENDPOINTS: usize = 65_536;
    pub const PAIRS: usize = 32_768;
    /// Bytes.
    pub const EVENTS: usize = 1 << 20;
}
