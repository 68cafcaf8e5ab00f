//! The configuration file: YAML to [`Settings`], or everything that is wrong
//! with it, each with line, column and what would be right.
//!
//! In stages: text → tree with positions (`yaml`) → what the schema allows
//! (`shape`; the rest is reported and taken out) → the file's own types (`raw`)
//! → settings (`validate`). It never guesses: what isn't implemented, repeated
//! or ambiguous is an error.

mod block;
mod node;
mod problem;
mod raw;
mod reference;
mod schema;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;
mod text;
mod validate;
mod yaml;

use std::{fs::File, io::Read, path::Path};

pub use block::{PolicyBlock, policy_schema, route};
pub use problem::{LoadError, Problem, Problems};
pub use reference::{EXAMPLE, reference};
pub use schema::schema;

use crate::model::Settings;
use node::Position;

/// A duration as the file has them, or what is wrong with it.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let read: Result<text::Duration, String> = text::Form::read(text);
    read.map(|duration| duration.0)
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Settings, LoadError> {
    let unreadable = |source| LoadError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    // One byte more than allowed tells a file that is too large.
    file.take(yaml::MAX_SIZE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let settings =
        if bytes.len() > yaml::MAX_SIZE { Err(too_large()) } else { utf8(&bytes).and_then(parse) };
    settings.map_err(|problems| {
        LoadError::Problems(Problems { file: path.display().to_string(), ..problems })
    })
}

/// Checks the text of a configuration file.
pub fn parse(text: &str) -> Result<Settings, Problems> {
    if text.len() > yaml::MAX_SIZE {
        return Err(too_large());
    }
    let mut problems = Problems::default();
    let tree = yaml::read(text, &mut problems)?;
    let tree = shape::check(tree, &mut problems);
    let raw = match serde_json::from_value::<raw::File>(tree.to_json()) {
        Ok(raw) => raw,
        Err(error) => {
            // The check of the shape should have found it; a reload must not
            // bring the agent down where it didn't.
            problems.push(tree.at, "(file)", format!("can't be decoded: {error}"));
            problems.sort();
            return Err(problems);
        }
    };
    let settings = validate::validate(raw, &mut validate::Reporter::new(&tree, &mut problems));
    if problems.is_empty() {
        return Ok(settings);
    }
    problems.sort();
    Err(problems)
}

fn too_large() -> Problems {
    let message = format!("larger than {} MiB, the most that is read", yaml::MAX_SIZE >> 20);
    Problems::one(Position::START, message)
}

fn utf8(bytes: &[u8]) -> Result<&str, Problems> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let at = Position { line, column };
        Problems::one(at, "is not UTF-8 text from here on: save the file as UTF-8".into())
    })
}
