//! What people get to see of results.

pub mod page;
pub mod picture;
pub mod table;

use super::{contender::Contender, result::Row};

/// With few digits: `62.8k`, `16.5`, `0.66`.
pub fn short(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{:.2}M", value / 1e6),
        value if value >= 99_950.0 => format!("{:.0}k", value / 1e3),
        value if value >= 9_995.0 => format!("{:.1}k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 9.95 => format!("{value:.1}"),
        value if value >= 0.1 || value == 0.0 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}

/// Title of a row's contender.
pub fn title(row: &Row) -> String {
    let found = Contender::ALL.into_iter().find(|one| one.name() == row.contender);
    found.map_or_else(|| row.contender.clone(), |one| one.title().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [179_000.0, 62_812.0, 512.3, 16.54, 0.663, 0.004_2, 0.0].map(short);
        assert_eq!(shown, ["179k", "62.8k", "512", "16.5", "0.66", "0.0042", "0.00"]);
    }
}
