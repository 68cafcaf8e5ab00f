//! The files that are ours: tracked by git, or new and not ignored.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use super::source::Source;
use crate::{process, workspace};

/// All files of the repository that are text.
#[derive(Debug, Default)]
pub struct Tree {
    pub rust: Vec<Source>,
    /// Everything, Rust included, as path and text.
    pub texts: Vec<(String, String)>,
}

impl Tree {
    pub fn read() -> Result<Self> {
        let root = workspace::root();
        let mut git = Command::new("git");
        // In CI the folder often belongs to another user, which git refuses otherwise.
        git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]);
        let listed = process::output(git.arg("--exclude-standard").current_dir(&root))?;
        let mut tree = Self::default();
        for path in listed.split_terminator('\0') {
            let full = root.join(path);
            if !full.is_file() {
                continue; // Deleted, and not yet committed.
            }
            let bytes = fs::read(&full).with_context(|| format!("can't read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                tree.add(path, text);
            }
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, text: String) {
        if path.ends_with(".rs") {
            self.rust.push(Source::parse(path, &text));
        }
        self.texts.push((path.to_owned(), text));
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|(other, _)| other == path).map(|(_, text)| text.as_str())
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, (*text).to_owned());
        }
        tree
    }
}
