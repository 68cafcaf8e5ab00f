//! Capture by pod: which cgroup holds all pods, and which of them are captured.
//!
//! The hooks are attached once, above all pods. Kubernetes puts a pod's cgroup
//! directly below that one (class Guaranteed) or below its class's (Burstable,
//! BestEffort): a hook asks for the ancestors of the current task at these two
//! depths, and looks both up among the captured pods.

/// Below this cgroup only captured pods are; elsewhere everything is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selective {
    /// The id of the cgroup of all pods; 0 for none.
    pub cgroup: u64,
    /// Its depth: pods are one and two levels below.
    pub level: u32,
    pub zero: u32,
}

/// How far below [`Selective::cgroup`] a pod's own cgroup may be.
pub const POD_DEPTHS: [u32; 2] = [1, 2];

crate::plain_bytes!(Selective);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Selective>(), align_of::<Selective>()), (16, 8));
    }
}
