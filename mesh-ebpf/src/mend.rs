//! Takes connections off the counts whose end no hook saw: those that were open
//! when a hook was detached. Run by the agent, not by a packet: only the kernel
//! can add to a counter that other CPUs add to as well.

use aya_ebpf::programs::SkBuffContext;
use mesh_common::connection::Unseen;

use crate::{backend, count, maps::SERVICES};

/// The packet is an [`Unseen`].
#[inline(always)]
pub fn take_off(ctx: &SkBuffContext) -> i32 {
    let Ok(unseen) = ctx.load::<Unseen>(0) else { return 0 };
    if let Some(backend) = backend::backend(unseen.backend) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*backend).closed, unseen.connections) };
    }
    if let Some(service) = SERVICES.get_ptr_mut(unseen.service) {
        // SAFETY: a live map value.
        unsafe { count::add(&raw mut (*service).closed, unseen.connections) };
    }
    1
}
