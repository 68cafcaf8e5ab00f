//! A file is one concept: one that has grown long has a second one in it,
//! which wants a name and a file of its own.

use super::{Finding, tree::Tree};

/// Of code and comments; tests at the end of a file don't count.
const LIMIT: usize = 400;

/// Files that may be longer, each with its reason. Better: none.
const LONGER: [(&str, &str); 0] = [];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.rust {
        let lines = source.code().count();
        let is_source = source.path.contains("/src/") || source.path.starts_with("src/");
        let may = LONGER.iter().any(|(path, _)| *path == source.path);
        if is_source && lines > LIMIT && !may {
            let text = format!("{lines} lines without tests, over {LIMIT}: split what it is about");
            findings.push(Finding::new(&source.path, 0, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count() {
        let long = "a();\n".repeat(LIMIT + 1);
        let tested =
            format!("a();\n#[cfg(test)]\nmod tests {{\n{}}}\n", "a();\n".repeat(LIMIT + 1));
        let tree = Tree::of(&[("a/src/long.rs", &long), ("a/src/tested.rs", &tested)]);
        let paths: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["a/src/long.rs"]);
    }
}
