//! Where a rate limit of the kernel path stands.

/// Whose theoretical arrival time it is: see [`crate::gcra`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeterKey {
    /// Of the client, for limits by client; else 0.
    pub netns: u64,
    pub service: u32,
    /// Index in [`crate::policy::Policy::rates`].
    pub rate: u32,
}

crate::plain_bytes!(MeterKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<MeterKey>(), align_of::<MeterKey>()), (16, 8));
    }
}
