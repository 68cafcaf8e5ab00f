//! Who is left alone: the agent itself, and excluded cgroups.

use aya_ebpf::{helpers::generated::bpf_get_current_ancestor_cgroup_id, programs::SockAddrContext};
use mesh_common::{
    reason::Reason,
    settings::{MAX_EXCLUDES, Settings},
};

use crate::context;

/// Why this socket is none of our business, where it isn't.
#[inline(always)]
pub fn left_alone(ctx: &SockAddrContext, settings: &Settings) -> Option<Reason> {
    if context::mark(ctx) == settings.mark {
        return Some(Reason::AgentSocket);
    }
    if settings.excludes > 0 && is_excluded(settings) {
        return Some(Reason::Excluded);
    }
    None
}

#[inline(always)]
fn is_excluded(settings: &Settings) -> bool {
    for index in 0..MAX_EXCLUDES {
        if index as u32 >= settings.excludes {
            break;
        }
        let exclude = &settings.exclude[index];
        // SAFETY: takes an integer; 0 where the task is not that deep.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(exclude.level as i32) };
        if ancestor == exclude.cgroup {
            return true;
        }
    }
    false
}
