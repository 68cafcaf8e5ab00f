//! What is wrong with a file: everything, each with its place.

use std::{fmt, io, path::PathBuf};

use serde::Serialize;

use super::node::Position;

/// One thing that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Both count from 1; columns count characters.
    pub line: usize,
    pub column: usize,
    /// Such as `services[1].ports[0].protocol`; `(file)` is the whole file.
    pub path: String,
    pub message: String,
}

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problems {
    /// Empty where the text didn't come from a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    pub problems: Vec<Problem>,
    /// Found beyond [`Problems::LIMIT`], not listed.
    pub omitted: usize,
}

/// Why a file gave no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("can't read {}: {source}; check the path and its permissions", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl Problems {
    /// A file that is wrong in every line doesn't fill the screen for minutes.
    pub const LIMIT: usize = 1000;

    pub fn push(&mut self, at: Position, path: impl fmt::Display, message: String) {
        if self.is_full() {
            self.omitted += 1;
            return;
        }
        let path = path.to_string();
        self.problems.push(Problem { line: at.line, column: at.column, path, message });
    }

    /// From here on problems are only counted: no need to word them.
    pub fn is_full(&self) -> bool {
        self.problems.len() >= Self::LIMIT
    }

    pub fn one(at: Position, message: String) -> Self {
        let mut problems = Self::default();
        problems.push(at, "(file)", message);
        problems
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn sort(&mut self) {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if !self.file.is_empty() {
                write!(f, "{}:", self.file)?;
            }
            let Problem { line, column, path, message } = problem;
            write!(f, "{line}:{column}: {path}: {message}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n... and {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// Part of the file for a message: short, on one line, nothing that a terminal
/// would act on.
pub fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == LONGEST {
            shown.push('…');
            break;
        }
        if c.is_control() || is_format(c) { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown
}

/// Invisible characters that reorder or hide what stands beside them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
