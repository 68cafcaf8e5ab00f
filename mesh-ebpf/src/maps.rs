//! The maps. Layouts and capacities stand in mesh-common, which the agent
//! shares; the names here are those of `mesh_common::map`.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage, SockHash},
    macros::btf_map,
};
use mesh_common::{
    address::Address,
    affinity::{Affinity, AffinityKey},
    backend::{Backend, Slot, SlotKey, TierKey},
    bypass::{Pair, PairKey},
    connection::{Connection, Flow, FlowKey, ReverseKey},
    event::Event,
    frontend::{Frontend, FrontendKey},
    lookup::{Chunk, ChunkKey},
    map::capacity,
    meter::MeterKey,
    pace::{EndsKey, Group, GroupKey, Paced},
    policy::Policy,
    reason,
    service::Service,
    settings::Settings,
    socket::{Original, OriginalKey, Socket},
    unreached::UnreachedKey,
};

const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// Monotonic time of the agent's last sign of life, ns.
#[btf_map]
pub static HEARTBEAT: Array<u64, 1> = Array::new();

#[btf_map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend, { capacity::FRONTENDS }, ON_DEMAND> =
    HashMap::new();

#[btf_map]
pub static SLOTS: HashMap<SlotKey, Slot, { capacity::SLOTS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static BACKENDS: HashMap<u32, Backend, { capacity::BACKENDS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static SERVICES: HashMap<u32, Service, { capacity::SERVICES }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static SOCKETS: SkStorage<Socket> = SkStorage::new();

#[btf_map]
pub static ORIGINALS: HashMap<OriginalKey, Original, { capacity::ORIGINALS }, ON_DEMAND> =
    HashMap::new();

#[btf_map]
pub static RESOLVERS: LruHashMap<OriginalKey, Original, { capacity::RESOLVERS }> =
    LruHashMap::new();

#[btf_map]
pub static CONNECTIONS: HashMap<u64, Connection, { capacity::CONNECTIONS }, ON_DEMAND> =
    HashMap::new();

#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, Flow, { capacity::FLOWS }> = LruHashMap::new();

#[btf_map]
pub static REVERSE: LruHashMap<ReverseKey, Address, { capacity::REVERSE }> = LruHashMap::new();

#[btf_map]
pub static REASONS: PerCpuArray<u64, { reason::COUNT }> = PerCpuArray::new();

#[btf_map]
pub static EVENTS: RingBuf<Event, { capacity::EVENTS }> = RingBuf::new();

#[btf_map]
pub static POLICIES: HashMap<u32, Policy, { capacity::POLICIES }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static TIERS: HashMap<TierKey, u64, { capacity::TIERS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static LOOKUPS: HashMap<ChunkKey, Chunk, { capacity::LOOKUPS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static AFFINITIES: LruHashMap<AffinityKey, Affinity, { capacity::AFFINITIES }> =
    LruHashMap::new();

#[btf_map]
pub static CLIENTS: HashMap<u64, Address, { capacity::CLIENTS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static CONCURRENCY: HashMap<u32, u64, { capacity::CONCURRENCY }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static METERS: LruHashMap<MeterKey, u64, { capacity::METERS }> = LruHashMap::new();

#[btf_map]
pub static GROUPS: LruHashMap<GroupKey, Group, { capacity::GROUPS }> = LruHashMap::new();

#[btf_map]
pub static PACED: SkStorage<Paced> = SkStorage::new();

#[btf_map]
pub static ENDS: LruHashMap<EndsKey, GroupKey, { capacity::ENDS }> = LruHashMap::new();

#[btf_map]
pub static CAPTURED: HashMap<u64, u32, { capacity::CAPTURED }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static UNREACHED: LruHashMap<UnreachedKey, u64, { capacity::UNREACHED }> = LruHashMap::new();

#[btf_map]
pub static NEIGHBOURS: HashMap<Address, u64, { capacity::NEIGHBOURS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub static ENDPOINTS: SockHash<u64, { capacity::ENDPOINTS }> = SockHash::new();

#[btf_map]
pub static PAIRS: HashMap<PairKey, Pair, { capacity::PAIRS }, ON_DEMAND> = HashMap::new();
