//! Who holds a Lease: what is seen of it, decided without a clock of its own.
//!
//! Clocks of nodes differ, so no time in the Lease is ever compared with ours:
//! it counts for how long *we* have seen nothing new (as client-go's leader
//! election does).

use std::time::Duration;

use tokio::time::Instant;

/// A Lease, as much as counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Empty where it was released.
    pub holder: String,
    /// Changes with each write, whoever makes it.
    pub version: String,
    /// For how long its holder may be silent, as it says itself.
    pub duration: Duration,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Create,
    /// It is ours: say that we are here.
    Renew,
    /// It is nobody's, or its holder has been silent for too long.
    Take,
    /// It is another one's.
    Leave,
}

pub struct Election {
    identity: String,
    /// What was seen last, and when that was new.
    seen: Option<(Seen, Instant)>,
}

impl Election {
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None }
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The Lease was read, at `now`.
    pub fn observe(&mut self, lease: Option<Seen>, now: Instant) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create;
        };
        let new = self.seen.as_ref().is_none_or(|(before, _)| *before != lease);
        if new {
            self.seen = Some((lease, now));
        }
        let Some((lease, since)) = &self.seen else { return Step::Create };
        if lease.holder == self.identity {
            Step::Renew
        } else if lease.holder.is_empty() || now.duration_since(*since) > lease.duration {
            Step::Take
        } else {
            Step::Leave
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn lease(holder: &str, version: u32) -> Seen {
        Seen { holder: holder.into(), version: version.to_string(), duration: DURATION }
    }

    #[test]
    fn only_silence_takes_it_away() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut us = Election::new("us".into());
        for (seconds, seen, step) in [
            (0, None, Step::Create),
            (1, Some(lease("us", 1)), Step::Renew),
            (2, Some(lease("them", 2)), Step::Leave),
            (17, Some(lease("them", 2)), Step::Leave),
            // Renewed in between: the silence begins anew.
            (18, Some(lease("them", 3)), Step::Leave),
            (33, Some(lease("them", 3)), Step::Leave),
            (34, Some(lease("them", 3)), Step::Take),
            // Somebody else was quicker.
            (35, Some(lease("others", 4)), Step::Leave),
            (36, Some(lease("", 5)), Step::Take),
            (37, Some(lease("us", 6)), Step::Renew),
            (38, None, Step::Create),
        ] {
            assert_eq!(us.observe(seen, at(seconds)), step, "{seconds} s");
        }
    }

    /// One that was silent long before we came is only known to be so after we
    /// have watched it.
    #[test]
    fn what_was_before_us_does_not_count() {
        let start = Instant::now();
        let mut us = Election::new("us".into());
        assert_eq!(us.observe(Some(lease("them", 1)), start), Step::Leave);
        assert_eq!(us.observe(Some(lease("them", 1)), start + DURATION), Step::Leave);
        let later = start + DURATION + Duration::from_millis(1);
        assert_eq!(us.observe(Some(lease("them", 1)), later), Step::Take);
    }
}
