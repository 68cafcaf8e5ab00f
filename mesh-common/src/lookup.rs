//! The lookup table of consistent hashing as it stands in a map: in chunks,
//! under the same set and generation as the slots that it points to, so that
//! it is made before and retired after them.

/// How many entries a chunk has.
pub const CHUNK: usize = 512;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    pub set: u32,
    pub generation: u32,
    pub chunk: u32,
}

/// Entries are indices of slots; every backend of such a set has one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub slots: [u16; CHUNK],
}

crate::plain_bytes!(ChunkKey, Chunk);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<ChunkKey>(), align_of::<ChunkKey>()), (12, 4));
        assert_eq!((size_of::<Chunk>(), align_of::<Chunk>()), (2 * CHUNK, 2));
    }
}
