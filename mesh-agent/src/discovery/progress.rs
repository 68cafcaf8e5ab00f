//! What an answer does to what stands of a source. Pure: no clock, no I/O.

use std::{sync::Arc, time::Duration};

use super::{Answer, Outcome, SourceState, schedule};
use crate::model::Instance;

/// A source's set, and how its last answers were.
#[derive(Debug)]
pub(super) struct Progress {
    /// Empty answers in a row after which the instances are removed.
    empty_after: u32,
    set: Arc<[Instance]>,
    /// Empty answers in a row; a failure is no answer.
    empties: u32,
    failures: u32,
    /// The last answer, for those that say "as before".
    last: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Instances,
    Empty,
}

/// What follows from an outcome.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub state: SourceState,
    /// The set is another one now.
    pub changed: bool,
    /// What went wrong.
    pub trouble: Option<String>,
    /// When to ask again.
    pub wait: Duration,
}

impl Progress {
    /// `set` is what is known of the source before its first answer.
    pub fn new(empty_after: u32, set: Arc<[Instance]>) -> Self {
        Self { empty_after: empty_after.max(1), set, empties: 0, failures: 0, last: None }
    }

    pub fn set(&self) -> &Arc<[Instance]> {
        &self.set
    }

    /// Takes in the outcome of asking once.
    pub fn take(&mut self, outcome: Outcome, random: f64) -> Step {
        let wait = schedule::jittered(outcome.wait, random);
        match (outcome.answer, self.last) {
            (Answer::Instances { instances, trouble }, _) => {
                self.answered(Kind::Instances);
                let changed = *self.set != *instances;
                if changed {
                    self.set = instances.into();
                }
                Step { state: SourceState::Ok, changed, trouble, wait }
            }
            (Answer::Empty, _) | (Answer::Unchanged, Some(Kind::Empty)) => {
                self.answered(Kind::Empty);
                let changed = self.empties >= self.empty_after && !self.set.is_empty();
                if changed {
                    self.set = Arc::default();
                }
                Step { state: SourceState::Empty, changed, trouble: None, wait }
            }
            (Answer::Unchanged, Some(Kind::Instances)) => {
                self.answered(Kind::Instances);
                Step { state: SourceState::Ok, changed: false, trouble: None, wait }
            }
            (Answer::Unchanged, None) => {
                self.failed("it says that nothing has changed, and has told nothing yet", random)
            }
            (Answer::Failed(reason), _) => self.failed(&reason, random),
        }
    }

    fn answered(&mut self, kind: Kind) {
        self.failures = 0;
        self.empties = if kind == Kind::Empty { self.empties.saturating_add(1) } else { 0 };
        self.last = Some(kind);
    }

    /// The set stays.
    fn failed(&mut self, reason: &str, random: f64) -> Step {
        self.failures = self.failures.saturating_add(1);
        Step {
            state: SourceState::Failing,
            changed: false,
            trouble: Some(reason.to_owned()),
            wait: schedule::back_off(self.failures, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::instance, *};

    const WAIT: Duration = Duration::from_secs(10);

    fn found(text: &str) -> Outcome {
        Outcome::found(vec![instance(text)], None, WAIT)
    }

    fn empty() -> Outcome {
        Outcome::found(Vec::new(), None, WAIT)
    }

    fn unchanged() -> Outcome {
        Outcome { answer: Answer::Unchanged, wait: WAIT }
    }

    fn fresh(empty_after: u32) -> Progress {
        Progress::new(empty_after, Arc::default())
    }

    #[test]
    fn the_set_survives_failures_and_the_first_empty_answers() {
        let mut progress = fresh(3);
        assert!(progress.take(found("10.0.0.1:80"), 0.5).changed);
        for (outcome, state, left) in [
            (Outcome::failed("x"), SourceState::Failing, 1),
            (empty(), SourceState::Empty, 1),
            (empty(), SourceState::Empty, 1),
            (Outcome::failed("x"), SourceState::Failing, 1),
            (empty(), SourceState::Empty, 0),
            (empty(), SourceState::Empty, 0),
            (found("10.0.0.1:80"), SourceState::Ok, 1),
            (empty(), SourceState::Empty, 1),
        ] {
            let before = progress.set().len();
            let step = progress.take(outcome.clone(), 0.5);
            assert_eq!((step.state, progress.set().len()), (state, left), "{outcome:?}");
            assert_eq!(step.changed, before != left, "{outcome:?}");
        }
    }

    #[test]
    fn an_answer_between_empty_ones_starts_the_count_anew() {
        let mut progress = fresh(2);
        progress.take(found("10.0.0.1:80"), 0.5);
        progress.take(empty(), 0.5);
        progress.take(unchanged(), 0.5);
        // "Unchanged" after an empty answer is an empty answer.
        assert!(progress.set().is_empty());
        progress.take(found("10.0.0.1:80"), 0.5);
        progress.take(unchanged(), 0.5);
        progress.take(empty(), 0.5);
        assert_eq!(progress.set().len(), 1);
    }

    #[test]
    fn the_same_set_in_another_order_is_no_change() {
        let mut progress = fresh(3);
        let (one, two) = (instance("10.0.0.1:80"), instance("[fd00::2]:80"));
        let first = Outcome::found(vec![one.clone(), two.clone()], None, WAIT);
        let second = Outcome::found(vec![two.clone(), one, two], None, WAIT);
        assert!(progress.take(first, 0.5).changed);
        assert!(!progress.take(second, 0.5).changed);
    }

    #[test]
    fn failures_back_off_and_an_answer_ends_that() {
        let mut progress = fresh(3);
        let mut wait = |outcome| progress.take(outcome, 0.5).wait.as_secs();
        assert_eq!(wait(Outcome::failed("x")), 1);
        assert_eq!(wait(Outcome::failed("x")), 2);
        assert_eq!(wait(Outcome::failed("x")), 4);
        assert_eq!(wait(found("10.0.0.1:80")), 10);
        assert_eq!(wait(Outcome::failed("x")), 1);
    }

    #[test]
    fn nothing_new_from_a_source_that_never_told_is_a_failure() {
        assert_eq!(fresh(3).take(unchanged(), 0.5).state, SourceState::Failing);
    }

    #[test]
    fn too_many_instances_change_nothing() {
        let crowd = (0..20_000u32).map(|n| {
            let address = std::net::Ipv4Addr::from(0x0a00_0001 + n).into();
            Instance { address, ..instance("10.0.0.1:80") }
        });
        let outcome = Outcome::found(crowd.collect(), None, WAIT);
        assert!(matches!(outcome.answer, Answer::Failed(reason) if reason.contains("20000")));
    }

    proptest! {
        /// Against a plain reading of the rules.
        #[test]
        fn removal_follows_the_rule(answers in vec(0u8..3, 0..40), empty_after in 1u32..5) {
            let mut progress = fresh(empty_after);
            let (mut there, mut empties) = (false, 0);
            for answer in answers {
                match answer {
                    0 => {
                        progress.take(found("10.0.0.1:80"), 0.5);
                        (there, empties) = (true, 0);
                    }
                    1 => {
                        progress.take(empty(), 0.5);
                        empties += 1;
                        there &= empties < empty_after;
                    }
                    _ => {
                        progress.take(Outcome::failed("x"), 0.5);
                    }
                }
                prop_assert_eq!(!progress.set().is_empty(), there);
            }
        }
    }
}
