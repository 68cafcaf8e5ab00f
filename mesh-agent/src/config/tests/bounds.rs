//! Text that is broken, large or hostile.

use proptest::prelude::*;

use super::check;
use crate::config::{EXAMPLE, LoadError, load, parse, yaml};

#[test]
fn yaml_that_is_refused() {
    check("", &[("1:1: (file): ", "empty")]);
    check("# nothing\n", &[("1:1: (file): ", "empty")]);
    check("a: 1\n---\nb: 2", &[("2:1: (file): ", "second document")]);
    check("services: [\n", &[("2:1: (file): ", "not valid YAML")]);
    check("dns:\n\tenabled: true", &[("2:", "tab")]);
    check("dns: {enabled: true}\ndns: {}", &[("2:1: dns: ", "first one is in line 1")]);
    check("dns: !secret x", &[("1:", "tags")]);
    check("? [a]\n: b", &[("1:3: (file): ", "can't be a key")]);
    check("<<: {}", &[("1:1: <<: ", "merge keys")]);
    check(&"[".repeat(100), &[("1:33: (file): ", "levels deep")]);
    check(&"a: ".repeat(10), &[("1:", "not valid YAML")]);
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    check(&laughs, &[("7:", "use fewer or smaller aliases")]);
    let text = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 16), "*a, ".repeat(1 << 16));
    check(&text, &[("2:", "use fewer or smaller aliases")]);
    let huge = "#".repeat(yaml::MAX_SIZE + 1);
    check(&huge, &[("1:1: (file): ", "larger than 16 MiB")]);
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.yaml");
    assert!(matches!(load(&path), Err(LoadError::Read { .. })));
    std::fs::write(&path, b"dns: {}\nx\xc3\xa9\xff: 1\n").unwrap();
    let shown = load(&path).unwrap_err().to_string();
    assert!(shown.starts_with(&format!("{}:2:3: (file): is not UTF-8", path.display())), "{shown}");
    std::fs::write(&path, "dns: {}").unwrap();
    assert_eq!(load(&path).unwrap().dns, crate::model::Dns::default());
}

#[test]
fn a_large_file_is_read_in_time() {
    let mut text = String::from("services:\n");
    for s in 0..10_000 {
        let (high, low) = (s / 250, s % 250 + 1);
        text.push_str(&format!(
            "  - name: service-{s}\n    address: 10.96.{high}.{low}\n    ports: [{{port: 80, protocol: http}}]\n    endpoints:\n      static:\n"
        ));
        for e in 1..=10 {
            text.push_str(&format!(
                "        - {{address: 10.{e}.{high}.{low}, port: 8080, weight: 1}}\n"
            ));
        }
    }
    let start = std::time::Instant::now();
    let settings = parse(&text).unwrap();
    assert_eq!(settings.services.len(), 10_000);
    // 2 s is the promise; a busy machine and an unoptimised build get more.
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    println!("{} bytes in {:?}", text.len(), start.elapsed());
}

#[test]
fn repeated_keys_are_found_in_long_mappings() {
    let mut text: String = (0..40).map(|index| format!("key{index}: 1\n")).collect();
    text.push_str("key3: 1\nkey30: 1\n");
    let shown = parse(&text).unwrap_err().to_string();
    assert!(
        shown.contains("41:1: key3: `key3` is given twice: the first one is in line 4"),
        "{shown}"
    );
    assert!(
        shown.contains("42:1: key30: `key30` is given twice: the first one is in line 31"),
        "{shown}"
    );
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let text: String = (0..1500).map(|index| format!("key{index}: 1\n")).collect();
    let problems = parse(&text).unwrap_err();
    assert_eq!((problems.problems.len(), problems.omitted), (1000, 500));
    assert!(problems.to_string().ends_with("\n... and 500 more"));
}

#[test]
fn terminals_are_not_driven_by_a_file() {
    let shown = parse("\"\\e[31m\\u202e\": 1").unwrap_err().to_string();
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}

proptest! {
    #[test]
    fn text_never_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    /// Made of what the parser and the checks react to.
    #[test]
    fn near_yaml_never_panics(parts in prop::collection::vec(prop::sample::select(&[
        "services", "capture", "name", "address", "ports", "port", "endpoints", "static",
        "policy", "timeout", "loadBalancer", "retry", "on", "routes", "matches", "headers", ": ", "\n", "\n  ", "\n    ", "- ", "[", "]", "{",
        "}", ", ", "&a ", "*a", "? ", "!t ", "'", "\"", "|", "#", "10.0.0.1", "80", "-1", "~",
        "true", "1e3", "5s", "\t", "---\n", "<<", "é",
    ][..]), 0..60)) {
        let _ = parse(&parts.concat());
    }

    /// Anything in the place of any key's value: reported, or read.
    #[test]
    fn wrong_values_never_panic(line in 0..90usize, value in "[ -~]{0,20}") {
        let lines = EXAMPLE.lines().enumerate().map(|(index, text)| {
            match text.split_once(": ") {
                Some((key, _)) if index == line => format!("{key}: {value}\n"),
                _ => format!("{text}\n"),
            }
        });
        let _ = parse(&lines.collect::<String>());
    }
}
