//! The kernel side, from user space: loads and pins the programs, keeps the
//! maps in step with the registry's snapshot, and reads back what happened.
//!
//! Programs and maps outlive the agent. A start adopts what it finds pinned
//! under the same ABI version; a stop leaves everything where it is; only
//! [`uninstall`] takes it away.

mod btf;
mod bypass;
mod capture;
mod captured_pods;
mod concurrency;
mod contents;
mod events;
mod flows;
mod heartbeat;
mod hooks;
mod kernel_log;
mod limits;
mod neighbours;
mod newcomers;
mod object;
mod originals;
mod pins;
mod place;
mod plan;
mod planner;
mod policies;
mod preflight;
mod prepare;
mod reference;
mod row;
mod sys;
mod tables;

pub use capture::{Captured, Occupant, Root, scan};
pub use captured_pods::CapturedPods;
pub use concurrency::ConcurrencyLimits;
pub use events::{Event, Events, Record, ejected_for};
pub use flows::Flows;
pub use heartbeat::Heartbeat;
pub use hooks::{Attached, Hooks};
pub use kernel_log::forward as forward_kernel_log;
pub use mesh_common::{
    backend::{Backend as BackendCounters, RECENT},
    map::ABI_VERSION,
};
pub use neighbours::Neighbours;
pub use object::{LoadError, Object};
pub use originals::Originals;
pub use pins::{Pins, uninstall};
pub use place::{cgroup_names, cgroup2_mounts, hooked};
pub use plan::PlanError;
pub use planner::{Change, Planner};
pub use preflight::{Finding, State, check as preflight, required};
pub use prepare::prepare;
pub use reference::reference;
pub use tables::{Fill, LiveConnection, Sync, Tables};
