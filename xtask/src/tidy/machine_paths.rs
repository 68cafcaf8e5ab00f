//! No file speaks of the machine it was written on.

use super::{Finding, tree::Tree};

/// In halves, so that this file may be checked as well.
const PATHS: [&str; 1] = [concat!("/wo", "rk/")];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.texts {
        for (index, line) in text.lines().enumerate() {
            for found in PATHS.into_iter().filter(|found| begins_path(line, found)) {
                let text = format!("`{found}` is a folder of one machine");
                findings.push(Finding::new(path, index + 1, text));
            }
        }
    }
    findings
}

/// Whether an absolute path begins like that; the same in the middle of another path is fine.
fn begins_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "_-.~}/)".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_count() {
        let path = PATHS[0];
        for (line, found) in [
            (format!("cd {path}x"), true),
            (format!("\"{path}\""), true),
            (format!("~{path}x"), false),
            (format!("/home/a{path}x"), false),
            (format!("https://example.com{path}x"), false),
        ] {
            assert_eq!(!check(&Tree::of(&[("a", &line)])).is_empty(), found, "{line}");
        }
    }
}
