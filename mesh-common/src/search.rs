//! The search for a backend that may be used, among candidates that are judged
//! one after the other: what becomes of what was seen.

/// What is thought of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Use,
    /// It has just come into service, and this isn't one of its turns.
    Slow,
    /// It has as many connections as its response time allows.
    Full,
    Ejected,
}

/// Why a search found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// There was no candidate.
    Seen,
    /// Those in service have as many connections as they may. What is ejected
    /// doesn't get what they were spared.
    Free,
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// What was found, as its index plus one.
    found: u32,
    /// What to use where nothing is found, likewise.
    spare: u32,
    /// The spare is one that starts slowly.
    slow: bool,
    /// One of those in service has as many connections as it may.
    full: bool,
}

impl Search {
    /// Takes in what is thought of the candidate at `index`; `true` ends the
    /// search.
    #[inline(always)]
    pub fn judged(&mut self, index: u32, judgement: Judgement) -> bool {
        match judgement {
            Judgement::Use => self.found = index + 1,
            // Better than one that is ejected.
            Judgement::Slow => {
                self.spare = index + 1;
                self.slow = true;
            }
            Judgement::Full => self.full = true,
            Judgement::Ejected if self.spare == 0 => self.spare = index + 1,
            Judgement::Ejected => {}
        }
        matches!(judgement, Judgement::Use)
    }

    /// Where none may be used, the best of what was seen is used all the same:
    /// ejection never refuses a connection. A limit does.
    #[inline(always)]
    pub fn result(&self) -> Result<u32, Nothing> {
        if self.found == 0 && self.full && !self.slow {
            return Err(Nothing::Free);
        }
        let index = if self.found > 0 { self.found } else { self.spare };
        index.checked_sub(1).ok_or(Nothing::Seen)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule, in the plainest words.
    fn reference(seen: &[(u32, Judgement)]) -> Result<u32, Nothing> {
        let first = |wanted| seen.iter().find(|one| one.1 == wanted).map(|one| one.0);
        let last = |wanted| seen.iter().rfind(|one| one.1 == wanted).map(|one| one.0);
        if let Some(usable) = first(Judgement::Use) {
            return Ok(usable);
        }
        if let Some(slow) = last(Judgement::Slow) {
            return Ok(slow);
        }
        if first(Judgement::Full).is_some() {
            return Err(Nothing::Free);
        }
        first(Judgement::Ejected).ok_or(Nothing::Seen)
    }

    fn judgement() -> impl Strategy<Value = Judgement> {
        prop_oneof![
            1 => Just(Judgement::Use),
            4 => Just(Judgement::Slow),
            4 => Just(Judgement::Full),
            4 => Just(Judgement::Ejected),
        ]
    }

    proptest! {
        #[test]
        fn it_ends_with_what_the_rule_says(
            seen in proptest::collection::vec((0..1u32 << 31, judgement()), 0..72),
        ) {
            let mut search = Search::default();
            let end = seen.iter().position(|&(index, judgement)| search.judged(index, judgement));
            prop_assert_eq!(end, seen.iter().position(|one| one.1 == Judgement::Use));
            prop_assert_eq!(search.result(), reference(&seen));
        }
    }
}
