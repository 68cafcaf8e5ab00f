//! Session affinity: which backend a client keeps to.

/// A client's workload, by its namespace's cookie, and a set of backends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    pub netns: u64,
    pub set: u32,
    pub zero: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// When it last connected, monotonic ns.
    pub used_ns: u64,
    pub backend: u32,
    pub zero: u32,
}

crate::plain_bytes!(AffinityKey, Affinity);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<AffinityKey>(), align_of::<AffinityKey>()), (16, 8));
        assert_eq!((size_of::<Affinity>(), align_of::<Affinity>()), (16, 8));
    }
}
