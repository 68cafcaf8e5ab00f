//! Who is left alone: the agent itself, excluded cgroups, and pods that nobody
//! wants captured.

use aya_ebpf::{helpers::generated::bpf_get_current_ancestor_cgroup_id, programs::SockAddrContext};
use mesh_common::{
    reason::Reason,
    selective::POD_DEPTHS,
    settings::{MAX_EXCLUDES, Settings},
};

use crate::{context, maps::CAPTURED};

/// Why this socket is none of our business, where it isn't.
#[inline(always)]
pub fn left_alone(ctx: &SockAddrContext, settings: &Settings) -> Option<Reason> {
    if is_agents(ctx, settings) {
        return Some(Reason::AgentSocket);
    }
    if settings.excludes > 0 && is_excluded(settings) {
        return Some(Reason::Excluded);
    }
    let pods = &settings.selective;
    if pods.cgroup != 0 && mesh_pod_passes(pods.cgroup, pods.level) != 0 {
        return Some(Reason::PodNotCaptured);
    }
    None
}

/// Whether it is a socket of the agent itself.
#[inline(always)]
pub fn is_agents(ctx: &SockAddrContext, settings: &Settings) -> bool {
    context::mark(ctx) == settings.mark
}

/// 1 where the current task is in a pod that isn't captured; 0 where it is
/// captured, or in no pod's cgroup at all.
///
/// A function of its own that takes numbers: the verifier looks at it once, and
/// not again on each way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mesh_pod_passes(pods: u64, level: u32) -> u32 {
    if ancestor(level) != pods {
        return 0;
    }
    for depth in POD_DEPTHS {
        if CAPTURED.get_ptr(ancestor(level + depth)).is_some() {
            return 0;
        }
    }
    1
}

/// The cgroup at this depth that the current task is in or below of; 0 where it
/// isn't that deep.
#[inline(always)]
fn ancestor(level: u32) -> u64 {
    // SAFETY: takes an integer.
    unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) }
}

#[inline(always)]
fn is_excluded(settings: &Settings) -> bool {
    for index in 0..MAX_EXCLUDES {
        if index as u32 >= settings.excludes {
            break;
        }
        let exclude = &settings.exclude[index];
        if ancestor(exclude.level) == exclude.cgroup {
            return true;
        }
    }
    false
}
