//! Durations, sizes, shares.

use std::time::Duration as StdDuration;

use super::Form;
use crate::model;

/// `250ms`, `5s`, `1m`, `3h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub StdDuration);

/// `64KiB`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// `50%`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub model::Percent);

/// Number and unit, or `None`.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

impl Form for Duration {
    const FORMAT: &'static str = "duration-with-unit";
    const PATTERN: &'static str = "^[0-9]{1,11}(ms|s|m|h)$";
    const EXPECTED: &'static str =
        "a duration: a whole number and a unit, such as `250ms`, `5s`, `1m` or `3h`";
    const EXAMPLES: &'static [&'static str] = &["250ms", "5s", "1m", "3h"];

    fn read(text: &str) -> Result<Self, String> {
        const LONGEST: u64 = 365 * 24 * 3_600_000;
        let milliseconds = match quantity(text) {
            Some((number, "ms")) => Some(number),
            Some((number, "s")) => Some(number.saturating_mul(1000)),
            Some((number, "m")) => Some(number.saturating_mul(60_000)),
            Some((number, "h")) => Some(number.saturating_mul(3_600_000)),
            _ => None,
        };
        match milliseconds {
            None => Err(format!("must be {}", Self::EXPECTED)),
            Some(long) if long > LONGEST => Err("is too long: at most `8760h`".into()),
            Some(milliseconds) => Ok(Self(StdDuration::from_millis(milliseconds))),
        }
    }

    fn write(&self) -> String {
        let milliseconds = self.0.as_millis();
        for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if milliseconds >= length && milliseconds.is_multiple_of(length) {
                return format!("{}{unit}", milliseconds / length);
            }
        }
        if milliseconds == 0 { "0s".into() } else { format!("{milliseconds}ms") }
    }
}

impl Form for Size {
    const FORMAT: &'static str = "size-with-unit";
    const PATTERN: &'static str = "^[0-9]{1,12}(B|KiB|MiB|GiB)$";
    const EXPECTED: &'static str =
        "a size: a whole number and a unit (B, KiB, MiB, GiB), such as `64KiB`";
    const EXAMPLES: &'static [&'static str] = &["64KiB", "10MiB"];

    fn read(text: &str) -> Result<Self, String> {
        let (number, shift) = match quantity(text) {
            Some((number, "B")) => (number, 0),
            Some((number, "KiB")) => (number, 10),
            Some((number, "MiB")) => (number, 20),
            Some((number, "GiB")) => (number, 30),
            _ => return Err(format!("must be {}", Self::EXPECTED)),
        };
        let bytes = number.checked_mul(1 << shift).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| "is too large to count in bytes".into())
    }

    fn write(&self) -> String {
        for (unit, length) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= length && self.0.is_multiple_of(length) {
                return format!("{}{unit}", self.0 / length);
            }
        }
        format!("{}B", self.0)
    }
}

impl Form for Percent {
    const FORMAT: &'static str = "percentage";
    const PATTERN: &'static str = "^(100|0?[0-9]{1,2})%$";
    const EXPECTED: &'static str =
        "a share: a whole number from 0 to 100 and the sign `%`, such as `50%`";
    const EXAMPLES: &'static [&'static str] = &["50%"];

    fn read(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix('%').filter(|digits| {
            (1..=3).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit())
        });
        (digits.and_then(|digits| digits.parse().ok()))
            .filter(|&percent| percent <= 100)
            .map(|percent| Self(model::Percent(percent)))
            .ok_or_else(|| format!("must be {}", Self::EXPECTED))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}
