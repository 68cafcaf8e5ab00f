//! Did you mean …?

/// The one of `known` that `typed` was most likely meant to be.
pub fn closest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed = plain(typed);
    let far_enough = typed.chars().count().div_ceil(3).max(1);
    (known.iter())
        .map(|name| (strsim::damerau_levenshtein(&typed, &plain(name)), *name))
        .filter(|&(distance, _)| distance <= far_enough)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// `round_robin`, `ROUND-ROBIN` and `roundRobin` are the same mistake. Long
/// text is cut: nothing known is as long.
fn plain(name: &str) -> String {
    name.chars()
        .take(64)
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_and_other_spellings() {
        let known = ["roundRobin", "random"];
        assert_eq!(closest("round_robin", &known), Some("roundRobin"));
        assert_eq!(closest("ROUND-ROBIN", &known), Some("roundRobin"));
        assert_eq!(closest("randon", &known), Some("random"));
        assert_eq!(closest("leastConnections", &known), None);
        assert_eq!(closest("prot", &["port", "protocol"]), Some("port"));
        assert_eq!(closest("", &known), None);
    }
}
