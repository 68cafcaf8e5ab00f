//! What the demo says: headings, commands, and a table of checks at the end.

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

/// The checks so far.
#[derive(Debug, Default)]
pub struct Report {
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    what: String,
    expected: String,
    seen: String,
    ok: bool,
}

impl Report {
    /// Notes a check, and says at once how it went.
    pub fn check(&mut self, what: &str, expected: &str, seen: &str, ok: bool) {
        let seen = if seen.is_empty() { "nothing" } else { seen };
        println!("  {} {what}: {seen}", if ok { "ok:" } else { "NOT OK:" });
        self.checks.push(Check {
            what: what.to_owned(),
            expected: expected.to_owned(),
            seen: seen.to_owned(),
            ok,
        });
    }

    /// [`Report::check`] for something that shall be equal to something else.
    pub fn equal(&mut self, what: &str, expected: &str, seen: &str) {
        self.check(what, expected, seen, expected == seen);
    }

    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    pub fn print(&self) {
        heading("Summary");
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(["check", "expected", "seen", "ok"]);
        for check in &self.checks {
            let ok = if check.ok { "yes" } else { "NO" };
            table.add_row([&check.what, &check.expected, &check.seen, ok]);
        }
        println!("{table}");
    }
}

pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// Shows a command before it runs: who runs it, and what.
pub fn command(who: &str, line: &str) {
    println!("{who}$ {line}");
}

/// Shows what a command printed, indented, at most `lines` of it.
pub fn printed(text: &str, lines: usize) {
    let all = text.trim_end().lines().count();
    for line in text.lines().take(lines) {
        println!("  {line}");
    }
    if all > lines {
        println!("  … ({} more lines)", all - lines);
    }
}
