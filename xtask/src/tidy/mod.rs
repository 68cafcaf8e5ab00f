//! `cargo xtask tidy`: the rules of this repository that no compiler knows.
//! One rule per file; each is a function from files to findings.

mod generated;
mod kernel_types;
mod levels;
mod machine_paths;
mod safety;
mod size;
mod source;
mod tree;
mod unfinished;
mod unsafe_files;

use std::fmt;

use anyhow::{Result, bail};
use clap::Args;

use tree::Tree;

/// Check the rules that no compiler knows: levels of modules, file sizes, SAFETY
/// comments, where unsafe code may stand, nothing unfinished, generated docs fresh.
#[derive(Debug, Clone, Copy, Args)]
pub struct Arguments {
    /// Leave out the one check that has to build the agent: that the generated docs are fresh
    #[arg(long)]
    skip_generated: bool,
}

impl Arguments {
    /// Every check.
    pub fn all() -> Self {
        Self { skip_generated: false }
    }
}

/// A rule that is broken, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    /// From 1; 0 speaks of the whole file.
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [(&str, Rule); 7] = [
    ("levels", levels::check),
    ("kernel types", kernel_types::check),
    ("size", size::check),
    ("SAFETY comments", safety::check),
    ("files with unsafe code", unsafe_files::check),
    ("nothing unfinished", unfinished::check),
    ("machine paths", machine_paths::check),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let tree = Tree::read()?;
    let mut broken = 0;
    for (name, rule) in RULES {
        broken += report(name, &rule(&tree));
    }
    if !arguments.skip_generated {
        broken += report("generated docs", &generated::check()?);
    }
    if broken > 0 {
        bail!("tidy: {broken} finding(s)");
    }
    println!("tidy: {} files, no findings", tree.len());
    Ok(())
}

fn report(name: &str, findings: &[Finding]) -> usize {
    for finding in findings {
        eprintln!("{finding} [{name}]");
    }
    findings.len()
}
