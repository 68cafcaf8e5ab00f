//! The promises of this module, by text in and problems out.

use super::*;
use crate::model::{Algorithm, Protocol};

/// `line:column: path: ` and the start or a part of each message.
fn check(text: &str, expected: &[(&str, &str)]) {
    let problems = match parse(text) {
        Ok(_) if expected.is_empty() => return,
        Ok(_) => panic!("nothing was found wrong in:\n{text}"),
        Err(problems) => problems,
    };
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), expected.len(), "in:\n{text}\nfound:\n{}", lines.join("\n"));
    for (line, (place, message)) in lines.iter().zip(expected) {
        let fits = line.strip_prefix(place).is_some_and(|rest| rest.contains(message));
        assert!(fits, "in:\n{text}\nfound:\n{line}\nexpected:\n{place} … {message}");
    }
}
