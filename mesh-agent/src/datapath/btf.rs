//! Where the kernel that runs has a member of one of its structures, by its own
//! description of its types (BTF, `include/uapi/linux/btf.h`).
//!
//! The loader can't tell: Rust programs have no relocations for it.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The types of a kernel.
pub(super) struct Btf {
    /// The whole file, and where its parts are.
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type stands; the first is that of id 1.
    types: Vec<usize>,
}

impl Btf {
    pub(super) fn of_this_kernel() -> anyhow::Result<Self> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Self::parse(bytes).with_context(|| path.display().to_string())
    }

    fn parse(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let mut btf = Self { bytes, strings: 0, types: Vec::new() };
        let magic = btf.bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic));
        ensure!(magic == Some(MAGIC), "no BTF of this machine's byte order");
        let header = btf.word(4)? as usize;
        let types = header + btf.word(8)? as usize;
        let end = types + btf.word(12)? as usize;
        btf.strings = header + btf.word(16)? as usize;
        let mut at = types;
        while at < end {
            btf.types.push(at);
            at += 12 + btf.extra(at)?;
        }
        Ok(btf)
    }

    /// The offset of `path`, the names of members inside each other, in
    /// `struct name`, in bytes.
    pub(super) fn offset(&self, name: &str, path: &[&str]) -> anyhow::Result<u32> {
        let mut found = None;
        for &at in &self.types {
            if self.kind(at)? == STRUCT && self.name(self.word(at)?)? == name.as_bytes() {
                found = Some(at);
            }
        }
        let mut at = found.with_context(|| format!("no struct {name}"))?;
        let mut bits = 0;
        for member in path {
            let (offset, kind) = (self.member(at, member.as_bytes())?)
                .with_context(|| format!("struct {name} has no {}", path.join(".")))?;
            bits += offset;
            at = kind;
        }
        ensure!(bits % 8 == 0, "{} of struct {name} is a part of a byte", path.join("."));
        Ok(bits / 8)
    }

    /// The offset in bits, and where the type stands, of a member; those of
    /// members without a name are its own, as in C.
    fn member(&self, at: usize, name: &[u8]) -> anyhow::Result<Option<(u32, usize)>> {
        if !matches!(self.kind(at)?, STRUCT | UNION) {
            return Ok(None);
        }
        let info = self.word(at + 4)?;
        // The upper byte is then the size of a bit field.
        let mask = if info >> 31 == 1 { 0xff_ffff } else { u32::MAX };
        for index in 0..(info & 0xffff) as usize {
            let entry = at + 12 + index * 12;
            let offset = self.word(entry + 8)? & mask;
            let id = self.word(entry + 4)? as usize;
            let Some(&kind) = id.checked_sub(1).and_then(|index| self.types.get(index)) else {
                continue;
            };
            let own = self.name(self.word(entry)?)?;
            if own == name {
                return Ok(Some((offset, kind)));
            }
            if own.is_empty()
                && let Some((inner, kind)) = self.member(kind, name)?
            {
                return Ok(Some((offset + inner, kind)));
            }
        }
        Ok(None)
    }

    fn kind(&self, at: usize) -> anyhow::Result<u32> {
        Ok(self.word(at + 4)? >> 24 & 0x1f)
    }

    /// How many bytes follow a type's first twelve.
    fn extra(&self, at: usize) -> anyhow::Result<usize> {
        let count = (self.word(at + 4)? & 0xffff) as usize;
        Ok(match self.kind(at)? {
            // An integer, a variable, a tag of a declaration.
            1 | 14 | 17 => 4,
            // An array.
            3 => 12,
            // A structure, a union, a section, an enumeration of 64 bits.
            STRUCT | UNION | 15 | 19 => count * 12,
            // An enumeration, the parameters of a function.
            6 | 13 => count * 8,
            2 | 7..=12 | 16 | 18 => 0,
            other => anyhow::bail!("types of kind {other} aren't known"),
        })
    }

    fn name(&self, offset: u32) -> anyhow::Result<&[u8]> {
        let rest = self.bytes.get(self.strings + offset as usize..).context("cut off")?;
        let end = rest.iter().position(|byte| *byte == 0).context("cut off")?;
        Ok(&rest[..end])
    }

    fn word(&self, at: usize) -> anyhow::Result<u32> {
        let word = self.bytes.get(at..).and_then(<[u8]>::first_chunk).context("cut off")?;
        Ok(u32::from_ne_bytes(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; union { struct inner { int b; int c; } i; }; };`
    fn example() -> Vec<u8> {
        let strings = b"\0int\0inner\0b\0c\0outer\0a\0i\0";
        let at = |name: &[u8]| {
            let name = [b"\0", name, b"\0"].concat();
            strings.windows(name.len()).position(|window| window == name).unwrap() as u32 + 1
        };
        let types = [
            // 1: int
            vec![at(b"int"), 1 << 24, 4, 32],
            // 2: struct inner
            vec![at(b"inner"), STRUCT << 24 | 2, 8, at(b"b"), 1, 0, at(b"c"), 1, 32],
            // 3: the union
            vec![0, UNION << 24 | 1, 8, at(b"i"), 2, 0],
            // 4: struct outer, as if it had bit fields
            vec![at(b"outer"), 1 << 31 | STRUCT << 24 | 2, 12, at(b"a"), 1, 0, 0, 3, 32],
        ]
        .concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let header = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend(header.into_iter().flat_map(u32::to_ne_bytes));
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_inside_what_has_no_name() {
        let btf = Btf::parse(example()).unwrap();
        assert_eq!(btf.offset("outer", &["a"]).unwrap(), 0);
        assert_eq!(btf.offset("outer", &["i", "c"]).unwrap(), 8);
        assert!(btf.offset("outer", &["i", "d"]).is_err());
        assert!(btf.offset("outer", &["a", "b"]).is_err());
        assert!(btf.offset("int", &["a"]).is_err());
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = example();
        for length in 0..whole.len() {
            let cut = Btf::parse(whole[..length].to_vec());
            assert!(cut.and_then(|btf| btf.offset("outer", &["i", "c"])).is_err(), "{length}");
        }
    }

    #[test]
    fn this_kernel_says_where_sockets_count_their_bytes() {
        let btf = Btf::of_this_kernel().unwrap();
        let socket = btf.offset("sock", &["sk_backlog", "rmem_alloc"]).unwrap();
        let of_tcp = ["bytes_sent", "write_seq", "snd_nxt"]
            .map(|name| btf.offset("tcp_sock", &[name]).unwrap());
        // The one begins with the other.
        assert!(socket > 0 && of_tcp.iter().all(|&offset| offset > socket));
    }
}
