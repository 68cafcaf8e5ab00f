//! Pods made of real network namespaces and cgroups.
//!
//! The integration tests and `cargo xtask demo` stand on it. A [`World`] has a
//! switch with no way out, pods on it and an agent; whatever happens to the
//! process that built it, nothing of it is left behind.

mod agent;
mod cgroup;
pub mod cluster;
mod containerd;
pub mod integrity;
mod janitor;
mod kubepods;
mod load;
mod overload;
mod pod;
mod process;
pub mod server;
mod service;
mod slot;
mod tables;
mod trio;
mod wait;
mod world;

pub use agent::{Agent, agent_binary, beside_this_program, example};
pub use containerd::{Containerd, Mount};
pub use kubepods::{Class, Driver, KubePod, Kubepods};
pub use load::{Attempt, Load, answers};
pub use overload::Overload;
pub use pod::{Pod, PodOptions};
pub use process::{Process, output, text};
pub use service::Service;
pub use tables::{Change, Tables};
pub use trio::{Trio, link};
pub use wait::{eventually, eventually_for};
pub use world::World;
