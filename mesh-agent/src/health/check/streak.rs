//! Answers in a row make a verdict.

use super::super::Verdict;

/// What the checks of one instance said last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streak {
    verdict: Verdict,
    passed: bool,
    in_a_row: u32,
}

impl From<Verdict> for Streak {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, ..Self::default() }
    }
}

impl Streak {
    /// Takes in one more: `healthy` or `unhealthy` of a kind in a row change the
    /// verdict.
    pub fn take(&mut self, passed: bool, healthy: u32, unhealthy: u32) -> Verdict {
        self.in_a_row = if passed == self.passed { self.in_a_row.saturating_add(1) } else { 1 };
        self.passed = passed;
        let (verdict, enough) =
            if passed { (Verdict::Healthy, healthy) } else { (Verdict::Unhealthy, unhealthy) };
        if self.in_a_row >= enough {
            self.verdict = verdict;
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_in_a_row_change_the_verdict() {
        let mut streak = Streak::default();
        let verdicts: Vec<_> = "ffpfffppfpp"
            .chars()
            .map(|answer| match streak.take(answer == 'p', 2, 3) {
                Verdict::Unknown => '?',
                Verdict::Healthy => 'h',
                Verdict::Unhealthy => 'u',
            })
            .collect();
        assert_eq!(String::from_iter(verdicts), "?????uuhhhh");
    }
}
