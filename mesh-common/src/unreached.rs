//! Which backends a client could not connect to: see `docs/kernel-path.md`.

/// A client's workload, by its namespace's cookie, and a backend. The value is
/// when its connect failed last, monotonic ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnreachedKey {
    pub netns: u64,
    pub backend: u32,
    pub zero: u32,
}

crate::plain_bytes!(UnreachedKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<UnreachedKey>(), align_of::<UnreachedKey>()), (16, 8));
    }
}
