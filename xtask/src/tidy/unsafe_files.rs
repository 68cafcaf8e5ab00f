//! Unsafe code stands only where ARCHITECTURE.md, section "Unsafe code", says:
//! a new place for it is a decision that a reader of that page sees.

use super::{Finding, safety, tree::Tree};

const PAGE: &str = "ARCHITECTURE.md";
const SECTION: &str = "Unsafe code";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, 0, format!("is missing, with its section \"{SECTION}\""))];
    };
    let named = named(page);
    let mut findings = Vec::new();
    let mut used = vec![false; named.len()];
    for source in &tree.rust {
        let mut lines = source.lines.iter().enumerate();
        let Some((index, _)) =
            lines.find(|(index, line)| !safety::uses(source, *index, &line.code).is_empty())
        else {
            continue;
        };
        match named.iter().position(|(_, path)| covers(path, &source.path)) {
            Some(entry) => used[entry] = true,
            None => {
                let text =
                    format!("unsafe code in a file that {PAGE}, \"{SECTION}\", doesn't name");
                findings.push(Finding::new(&source.path, index + 1, text));
            }
        }
    }
    for ((line, path), _) in named.iter().zip(used).filter(|(_, used)| !used) {
        let text = format!("names `{path}`, where no unsafe code is");
        findings.push(Finding::new(PAGE, *line, text));
    }
    findings
}

/// A path that ends with `/` stands for all files below it.
fn covers(entry: &str, path: &str) -> bool {
    entry == path || (entry.ends_with('/') && path.starts_with(entry))
}

/// The first thing in backquotes of each bullet in that section, with its line.
fn named(page: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut named = Vec::new();
    for (index, line) in page.lines().enumerate() {
        if let Some(title) = line.strip_prefix('#') {
            inside = title.trim_start_matches('#').trim() == SECTION;
        } else if inside && line.starts_with("- ") {
            named.extend(line.split('`').nth(1).map(|path| (index + 1, path)));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "// SAFETY: it lives.\nunsafe { f() }";

    #[test]
    fn every_place_is_named_and_every_name_is_a_place() {
        let page = "# Map\n- `d.rs`\n## Unsafe code\n- `a.rs`: why\n- `b/`\n- `gone.rs`\n# More\n";
        let tree = Tree::of(&[
            (PAGE, page),
            ("a.rs", CODE),
            ("b/c.rs", CODE),
            ("d.rs", CODE),
            ("e.rs", "safe();"),
        ]);
        let found: Vec<_> = check(&tree).iter().map(|f| (f.path.clone(), f.line)).collect();
        assert_eq!(found, [("d.rs".to_owned(), 2), (PAGE.to_owned(), 6)]);
    }

    #[test]
    fn without_the_page_nothing_is_allowed() {
        assert_eq!(check(&Tree::of(&[("a.rs", CODE)])).len(), 1);
    }
}
