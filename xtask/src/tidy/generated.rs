//! Pages that the agent writes are what this agent would write.

use std::fs;

use anyhow::Result;

use super::Finding;
use crate::{build, docs, workspace};

pub fn check() -> Result<Vec<Finding>> {
    let agent = build::agent(false)?;
    let mut findings = Vec::new();
    for (topic, page) in docs::PAGES {
        let written = fs::read_to_string(workspace::root().join(page)).ok();
        match docs::reference(&agent, topic) {
            Ok(text) => findings.extend(compare(page, written.as_deref(), &text)),
            Err(error) => findings.push(Finding::new(page, 0, format!("{error:#}"))),
        }
    }
    Ok(findings)
}

/// Names the first line that differs.
fn compare(page: &str, written: Option<&str>, text: &str) -> Option<Finding> {
    let Some(written) = written else {
        return Some(Finding::new(page, 0, "is missing; `cargo xtask docs` writes it"));
    };
    if written == text {
        return None;
    }
    let same = written.lines().zip(text.lines()).take_while(|(old, new)| old == new).count();
    Some(Finding::new(page, same + 1, "is out of date; `cargo xtask docs` rewrites it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(compare("a.md", Some("a\nb\n"), "a\nb\n"), None);
        let line = |written| compare("a.md", written, "a\nb\n").map(|finding| finding.line);
        assert_eq!(line(None), Some(0));
        assert_eq!(line(Some("a\nc\n")), Some(2));
        assert_eq!(line(Some("a\nb")), Some(3));
    }
}
