//! What is merged is finished: no stubs, no notes to oneself, no tests that
//! are left out.

use super::{Finding, tree::Tree};

/// In code.
const STUBS: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];
/// As whole words, in comments and in every file that is not Rust. Written in
/// halves, so that this file may be checked as well.
const NOTES: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.rust {
        for (index, line) in source.lines.iter().enumerate() {
            let stubs = STUBS.into_iter().filter(|stub| has_stub(&line.code, stub));
            let notes = NOTES.into_iter().filter(|note| has_word(&line.comment, note));
            for found in stubs.chain(notes) {
                findings.push(finding(&source.path, index + 1, found));
            }
        }
    }
    for (path, text) in tree.texts.iter().filter(|(path, _)| !path.ends_with(".rs")) {
        for (index, line) in text.lines().enumerate() {
            for note in NOTES.into_iter().filter(|note| has_word(line, note)) {
                findings.push(finding(path, index + 1, note));
            }
        }
    }
    findings
}

fn finding(path: &str, line: usize, found: &str) -> Finding {
    Finding::new(path, line, format!("`{found}`: finish it, or file an issue"))
}

fn has_stub(code: &str, stub: &str) -> bool {
    code.match_indices(stub).any(|(at, _)| !ends_in_word(&code[..at]))
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].chars().next();
        !ends_in_word(&text[..at]) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_in_code_and_notes_in_comments() {
        let note = format!("// {}: later", NOTES[0]);
        let temporary = format!("mktemp /tmp/a.{}{}", NOTES[1], NOTES[1]);
        let page = format!("see {}.", NOTES[1]);
        let tree = Tree::of(&[
            ("a.rs", "todo!();"),
            ("b.rs", "my_todo!(); f(\"todo!\"); // todo!"),
            ("c.rs", &note),
            ("d.rs", "#[ignore = \"slow\"]"),
            ("e.sh", &temporary),
            ("f.md", &page),
        ]);
        let paths: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["a.rs", "c.rs", "d.rs", "f.md"]);
    }
}
