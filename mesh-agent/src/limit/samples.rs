//! The response times of an interval, in bounded memory.

const MOST: usize = 1024;

/// Keeps every sample while there are few, and every second, fourth, … of them
/// when there are more than fit.
#[derive(Debug, Default)]
pub struct Samples {
    kept: Vec<u64>,
    /// One in this many is kept, as a power of two.
    thinned: u32,
    seen: usize,
}

impl Samples {
    pub fn add(&mut self, sample: u64) {
        let keep = self.seen.trailing_zeros() >= self.thinned;
        self.seen += 1;
        if !keep {
            return;
        }
        if self.kept.len() == MOST {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.thinned += 1;
        }
        self.kept.push(sample);
    }

    /// How many there were.
    pub fn len(&self) -> usize {
        self.seen
    }

    /// The lower median; 0 of nothing.
    pub fn median(&mut self) -> u64 {
        if self.kept.is_empty() {
            return 0;
        }
        let middle = (self.kept.len() - 1) / 2;
        *self.kept.select_nth_unstable(middle).1
    }

    pub fn clear(&mut self) {
        self.kept.clear();
        (self.thinned, self.seen) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_all() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), 0);
        for sample in [5, 1, 9, 3] {
            samples.add(sample);
        }
        assert_eq!((samples.median(), samples.len()), (3, 4));
        samples.clear();
        for sample in 0..1_000_000 {
            samples.add(sample);
        }
        assert!(samples.kept.len() <= MOST);
        assert!(samples.median().abs_diff(500_000) < 5_000, "{}", samples.median());
    }
}
