//! Modules of the agent stand in levels, and import only from lower ones.

use super::{Finding, source::Source, tree::Tree};

const FOLDER: &str = "mesh-agent/src/";

/// From the lowest up. Modules of one level don't know each other.
const LEVELS: [&[&str]; 8] = [
    &["model", "net"],
    &["config", "tap", "telemetry"],
    &["balance", "health", "limit", "retry", "route"],
    &["registry", "discovery", "kubernetes"],
    &["proxy", "dns", "datapath"],
    &["admin"],
    &["app"],
    &["cli"],
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust.iter().flat_map(check_file).collect()
}

fn check_file(source: &Source) -> Vec<Finding> {
    let Some((module, depth)) = place(&source.path) else { return Vec::new() };
    let Some(level) = level(module) else {
        let text = format!("module `{module}` has no level: add it in xtask/src/tidy/levels.rs");
        return vec![Finding::new(&source.path, 0, text)];
    };
    let mut findings = Vec::new();
    for (line, imported) in imports(source, depth) {
        let Some(other) = self::level(&imported) else { continue };
        if imported != module && other >= level {
            let relation = if other == level { "a sibling" } else { "a higher level" };
            let text = format!("`{module}` imports `{imported}`, {relation}");
            findings.push(Finding::new(&source.path, line, text));
        }
    }
    findings
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

/// The top-level module of a file, and how many `super::` lead from it to the
/// crate's root. The roots themselves (lib.rs, main.rs, a second binary) stand
/// above all levels.
fn place(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix(FOLDER)?.strip_suffix(".rs")?;
    if matches!(inner, "lib" | "main") || inner.starts_with("bin/") {
        return None;
    }
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    Some((inner.split('/').next()?, inner.split('/').count()))
}

/// Each first name after the crate's root, with its line: of `crate::a`,
/// `use crate::{a::b, c}`, and `super::` repeated up to the root.
fn imports(source: &Source, depth: usize) -> Vec<(usize, String)> {
    let to_root = "super::".repeat(depth);
    let mut found = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        for start in starts(&line.code, "crate::") {
            found.extend(names(source, index, start));
        }
        // In tests `super` starts one module lower.
        if !line.is_test {
            for start in starts(&line.code, &to_root) {
                found.extend(names(source, index, start));
            }
        }
    }
    found
}

/// Where each path that begins with `prefix` goes on. `$crate::` is another
/// macro's business; `super::super::` is not the end of a longer chain.
fn starts(code: &str, prefix: &str) -> Vec<usize> {
    code.match_indices(prefix)
        .filter(|(at, _)| {
            let before = code[..*at].chars().next_back();
            !before.is_some_and(|letter| letter.is_alphanumeric() || "_$:".contains(letter))
        })
        .map(|(at, _)| at + prefix.len())
        .collect()
}

/// The names that stand at this place: one, or those of a group in braces,
/// which may go on over the following lines.
fn names(source: &Source, index: usize, start: usize) -> Vec<(usize, String)> {
    let rest = &source.lines[index].code[start..];
    if !rest.trim_start().starts_with('{') {
        return vec![(index + 1, first_name(rest))];
    }
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expecting = false;
    for (number, line) in source.lines.iter().enumerate().skip(index) {
        let code = if number == index { rest } else { &line.code };
        for (at, letter) in code.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            match letter {
                '{' | ',' => expecting = depth == 1,
                '}' if depth == 0 => return names,
                letter if expecting && !letter.is_whitespace() => {
                    names.push((number + 1, first_name(&code[at..])));
                    expecting = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn first_name(code: &str) -> String {
    let code = code.trim_start().trim_start_matches("r#");
    code.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check_file(&Source::parse(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn downward_is_allowed_and_upward_and_sideways_are_not() {
        let cases = [
            ("use crate::model::Weight;", true),
            ("use crate::proxy::http::Body;", true),
            ("use crate::admin::Server;", false),
            ("use crate::dns::Query;", false),
            ("fn f(x: crate::cli::Arguments) {}", false),
            ("// use crate::cli;", true),
            ("const TEXT: &str = \"crate::cli\";", true),
            ("macro_rules! m { () => { $crate::cli::x() } }", true),
            ("pub(crate) fn f() {}", true),
        ];
        for (text, allowed) in cases {
            assert_eq!(lines("mesh-agent/src/proxy/mod.rs", text).is_empty(), allowed, "{text}");
        }
    }

    #[test]
    fn groups_are_read_over_lines_and_only_at_their_top() {
        let text =
            "use crate::{\n    model::{self, cli, Weight},\n    net, app::Agent,\n    dns,\n};";
        assert_eq!(lines("mesh-agent/src/proxy/tcp.rs", text), [3, 4]);
    }

    #[test]
    fn supers_count_where_they_reach_the_root() {
        let path = "mesh-agent/src/proxy/http/pool.rs";
        assert_eq!(lines(path, "use super::super::super::admin::x;"), [1]);
        assert!(lines(path, "use super::super::admin::x;").is_empty());
        assert_eq!(lines("mesh-agent/src/net.rs", "use super::model;"), [1]);
        let test = "#[cfg(test)]\nmod tests {\n    use super::dns;\n}";
        assert!(lines("mesh-agent/src/proxy/mod.rs", test).is_empty());
    }

    #[test]
    fn tests_keep_to_the_levels_too() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::app::Agent;\n}";
        assert_eq!(lines("mesh-agent/src/proxy/mod.rs", text), [3]);
    }

    #[test]
    fn a_module_without_a_level_is_named() {
        assert_eq!(lines("mesh-agent/src/misc/mod.rs", ""), [0]);
        assert!(lines("mesh-agent/src/main.rs", "use crate::cli;").is_empty());
        assert!(lines("mesh-common/src/misc.rs", "").is_empty());
    }
}
