//! tar files in the form of POSIX (ustar), always the same for the same content.

use anyhow::{Result, ensure};

const BLOCK: usize = 512;

/// Owner root, time 0. Entries stand in the order in which they are added.
#[derive(Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.header(&format!("{path}/"), 0, 0o755, b'5')
    }

    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.header(path, content.len(), mode, b'0')?;
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// With the two empty blocks that end it.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn header(&mut self, path: &str, size: usize, mode: u32, kind: u8) -> Result<()> {
        ensure!(path.len() < 100, "{path} is too long for the header of a tar file");
        ensure!(size < 1 << 33, "{path} is too large for the header of a tar file");
        let mut block = [0; BLOCK];
        let mut put = |at: usize, text: &str| {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "00000000000");
        // The sum is made with blanks in its own place.
        put(148, "        ");
        put(257, "ustar\u{0}00");
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let sum = format!("{sum:06o}\0 ");
        block[148..156].copy_from_slice(sum.as_bytes());
        self.bytes.extend_from_slice(&block);
        Ok(())
    }
}
