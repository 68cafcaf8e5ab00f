//! Which instance is next. Pure decisions: randomness and time come in as
//! arguments, and the arithmetic is that of `mesh_common`, which the kernel
//! runs too. docs/load-balancing.md says what is decided and by which formula.

mod affinity;
mod balancer;
pub mod key;
mod live;
mod locality;
mod moment;
mod response_times;
mod slow_start;

pub use affinity::Affinity;
pub use balancer::{Ask, Balancer, Choice};
pub use live::Live;
pub use locality::{Member, State, Tier, Tiers};
pub use response_times::ResponseTimes;

use mesh_common::schedule;

/// A list of indices in which each stands as often as it has turns: see
/// [`mesh_common::schedule`].
pub fn schedule(turns: impl Iterator<Item = u32>) -> Box<[u32]> {
    let weights: Vec<u32> = turns.collect();
    let mut slots = vec![0; schedule::length(&weights)];
    schedule::fill(&weights, &mut vec![0; weights.len()], &mut slots);
    slots.into()
}
