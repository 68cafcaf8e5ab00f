//! Cgroups below a captured one that are left alone.

/// An excluded cgroup: its id, and its depth, which is how the hooks ask for
/// the ancestor of the current task that might be it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    pub cgroup: u64,
    pub level: u32,
    pub zero: u32,
}

crate::plain_bytes!(Exclude);
