//! Copies of other services' requests that a service port is sent.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many of them; they outlive snapshots.
#[derive(Debug, Default)]
pub struct Mirrored {
    /// Now.
    under_way: AtomicU32,
    ended: [AtomicU64; Copied::ALL.len()],
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// An instance answered, whatever it said.
    Answered,
    /// No instance did.
    Failed,
    /// It took too long.
    TimedOut,
    /// It couldn't keep up with the request, and was cut.
    Behind,
    /// The request itself broke off, or was answered before it was over.
    Broken,
    /// It was never sent: too many are under way.
    Full,
}

impl Copied {
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Failed, Self::TimedOut, Self::Behind, Self::Broken, Self::Full];

    /// As metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::TimedOut => "timeout",
            Self::Behind => "behind",
            Self::Broken => "broken",
            Self::Full => "full",
        }
    }
}

impl Mirrored {
    /// Under way to one port at a time: a mirror that hangs would take them all.
    pub const MOST: u32 = 256;

    /// Room for another one, which is given back by [`Self::leave`]. Where
    /// there is none, that is counted.
    pub fn enter(&self) -> bool {
        if self.under_way.fetch_add(1, Ordering::Relaxed) < Self::MOST {
            return true;
        }
        self.leave();
        self.count(Copied::Full);
        false
    }

    pub fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn count(&self, copied: Copied) {
        self.ended[copied as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// How many have ended so.
    pub fn ended(&self, copied: Copied) -> u64 {
        self.ended[copied as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_fit() {
        let mirrored = Mirrored::default();
        let entered = (0..Mirrored::MOST + 3).filter(|_| mirrored.enter()).count();
        assert_eq!(entered, Mirrored::MOST as usize);
        assert_eq!(mirrored.ended(Copied::Full), 3);
        mirrored.leave();
        assert!(mirrored.enter());
        assert_eq!(mirrored.under_way(), Mirrored::MOST);
    }
}
