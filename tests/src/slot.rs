//! How many worlds exist at a time: real servers on few cores disturb each
//! other's timing, so tests queue, across threads and processes.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use crate::wait::eventually_for;

/// At most this many worlds of tests at a time.
const SLOTS: u16 = 2;

/// A place in the queue, free again when dropped or when the process ends.
#[derive(Debug)]
pub struct Slot {
    number: u16,
    _lock: Flock<File>,
}

impl Slot {
    /// Waits until one is free.
    pub fn wait(folder: &Path) -> Result<Self> {
        // As long as a whole test run may take.
        eventually_for(std::time::Duration::from_secs(900), "a free slot for a world", || {
            (0..SLOTS)
                .find_map(|number| {
                    let lock = lock(&folder.join(format!("slot-{number}"))).ok()?;
                    Some(Self { number, _lock: lock })
                })
                .ok_or_else(|| anyhow!("{SLOTS} worlds are running"))
        })
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Locks a file for as long as the value lives; fails where somebody else has it.
///
/// The kernel drops such a lock with the process that holds it, and children
/// don't inherit it: a free lock proves that its owner is dead.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| anyhow!("{} is locked: {error}", path.display()))
}
