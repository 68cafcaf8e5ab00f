//! Each `unsafe` says why it is sound: `// SAFETY:` right above a block or an
//! impl, `# Safety` in the docs of a function. clippy knows a like lint, which
//! sees neither into macros nor unsafe functions that are private.

use super::{Finding, source::Source, tree::Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust.iter().flat_map(check_file).collect()
}

fn check_file(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        let kinds = uses(source, index, &line.code);
        if kinds.is_empty() || line.comment.contains("SAFETY:") {
            continue;
        }
        let comment = comment_above(source, index);
        for kind in kinds {
            if let Some(text) = kind.complaint(&comment) {
                findings.push(Finding::new(&source.path, index + 1, text));
            }
        }
    }
    findings
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Relies on an invariant: a block, an impl, an extern block.
    Relies,
    /// Asks the caller for one: a function or a trait.
    Asks,
}

impl Use {
    fn complaint(self, comment: &str) -> Option<&'static str> {
        match self {
            Self::Relies if !comment.contains("SAFETY:") => {
                Some("`unsafe` without `// SAFETY:` right above, naming the fact that it rests on")
            }
            Self::Asks if !comment.contains("# Safety") && !comment.contains("SAFETY:") => {
                Some("unsafe function without `# Safety` in its docs, saying what callers owe it")
            }
            _ => None,
        }
    }
}

/// The uses of `unsafe` on this line: not as an attribute, not in the type of a function.
pub fn uses(source: &Source, index: usize, code: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    for (at, word) in code.match_indices("unsafe") {
        let before = code[..at].chars().next_back();
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        if before.is_some_and(is_word) {
            continue;
        }
        // What follows may stand on the next line.
        let mut after = code[at + word.len()..].trim_start().to_owned();
        if after.is_empty()
            && let Some(next) = source.lines.get(index + 1)
        {
            next.code.trim_start().clone_into(&mut after);
        }
        let after = after.strip_prefix("extern").map_or(&*after, |rest| {
            rest.trim_start().trim_start_matches('"').trim_start_matches('C')
        });
        let after = after.trim_start().trim_start_matches('"').trim_start();
        if after.starts_with('{') || after.starts_with("impl") {
            uses.push(Use::Relies);
        } else if after.starts_with("trait") || is_function(after) {
            uses.push(Use::Asks);
        }
    }
    uses
}

/// `fn name`, not the type `fn(u8)`.
fn is_function(after: &str) -> bool {
    after.strip_prefix("fn ").is_some_and(|rest| !rest.trim_start().starts_with('('))
}

/// The comment above the statement that holds this line, attributes skipped.
fn comment_above(source: &Source, index: usize) -> String {
    let above = || source.lines[..index].iter().rev().map(|line| (line, line.code.trim()));
    let skipped = above()
        .take_while(|(line, code)| !is_comment(line) && (code.starts_with("#[") || goes_on(code)))
        .count();
    let comment = above().skip(skipped).take_while(|(line, _)| is_comment(line));
    let mut lines: Vec<&str> = comment.map(|(line, _)| line.comment.as_str()).collect();
    lines.reverse();
    lines.join("\n")
}

fn is_comment(line: &super::source::Line) -> bool {
    line.code.trim().is_empty() && !line.comment.is_empty()
}

/// Whether a statement goes on after this line.
fn goes_on(code: &str) -> bool {
    !code.is_empty() && !code.ends_with([';', '{', '}', ','])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fine(text: &str) -> bool {
        check_file(&Source::parse("a.rs", text)).is_empty()
    }

    #[test]
    fn what_is_explained_is_fine() {
        for text in [
            "// SAFETY: it lives.\nunsafe { f() }",
            "// SAFETY: it lives,\n// and so on.\nlet x = unsafe { f() };",
            "// SAFETY: it lives.\nlet x =\n    unsafe { f() };",
            "// SAFETY: it lives.\n#[rustfmt::skip]\nunsafe impl Pod for X {}",
            "match x {\n    // SAFETY: it lives.\n    Some(x) => unsafe { f(x) },\n}",
            "/// # Safety\n/// `x` lives.\npub unsafe fn f(x: *const u8) {",
            "#[unsafe(no_mangle)]",
            "type F = unsafe extern \"C\" fn(u8);",
            "#![deny(unsafe_op_in_unsafe_fn)]",
            "// unsafe { f() }",
        ] {
            assert!(is_fine(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_explained_is_found() {
        for text in [
            "unsafe { f() }",
            "// It lives.\nunsafe { f() }",
            "// SAFETY: it lives.\ng();\nunsafe { f() }",
            "// SAFETY: it lives.\n\nunsafe { f() }",
            "unsafe impl Pod for X {}",
            "unsafe extern \"C\" {",
            "/// Adds.\npub unsafe fn f(x: *const u8) {",
            "unsafe extern \"C\" fn f(x: u8) {",
            "let x = unsafe\n{ f() };",
        ] {
            assert!(!is_fine(text), "{text}");
        }
    }
}
