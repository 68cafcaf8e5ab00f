//! The least value within a sliding window.

/// In how many slices a window slides.
const SLICES: usize = 6;

/// The least of what was recorded within the last `window`, which slides in
/// steps of a sixth of it.
#[derive(Debug)]
pub struct WindowMinimum {
    slice: u64,
    /// Number of the slice, and the least in it.
    slices: [Option<(u64, u64)>; SLICES],
}

impl WindowMinimum {
    pub fn new(window: u64) -> Self {
        Self { slice: (window / SLICES as u64).max(1), slices: [None; SLICES] }
    }

    pub fn record(&mut self, value: u64, now: u64) {
        let number = now / self.slice;
        let slot = &mut self.slices[(number % SLICES as u64) as usize];
        *slot = match *slot {
            Some((known, least)) if known == number => Some((number, least.min(value))),
            _ => Some((number, value)),
        };
    }

    pub fn get(&self, now: u64) -> Option<u64> {
        let number = now / self.slice;
        let recent = |one: &&(u64, u64)| one.0 + SLICES as u64 > number;
        self.slices.iter().flatten().filter(recent).map(|(_, least)| *least).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Between the minimum of five sixths of the window and that of all.
        #[test]
        fn it_is_the_least_of_the_window(
            steps in prop::collection::vec((0..500u64, 1..1_000u64), 1..200),
        ) {
            let window = 600;
            let mut minimum = WindowMinimum::new(window);
            let (mut now, mut all) = (0, Vec::new());
            for (gap, value) in steps {
                now += gap;
                minimum.record(value, now);
                all.push((now, value));
                let since = |age: u64| {
                    all.iter().filter(|(at, _)| at + age > now).map(|(_, value)| *value).min()
                };
                let found = minimum.get(now);
                prop_assert!(found <= since(window - window / 6) && found >= since(window));
            }
            prop_assert_eq!(minimum.get(now + window), None);
        }
    }
}
