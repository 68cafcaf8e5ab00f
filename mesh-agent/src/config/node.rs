//! The file as a tree in which every key and value knows where it stands.

use std::fmt::{self, Write as _};

use serde_json::{Map, Number, Value};

/// Where something stands in the file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub const START: Self = Self { line: 1, column: 1 };
}

#[derive(Clone, Debug)]
pub struct Node {
    pub at: Position,
    pub kind: Kind,
}

/// Bytes of text that cost as much as a value.
pub const TEXT_PER_VALUE: usize = 32;

#[derive(Clone, Debug)]
pub enum Kind {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Item>),
    Map(Vec<Entry>),
}

/// Keeps its index as written: items found wrong are taken out of the tree,
/// and the rest must still be named as the operator counts them.
#[derive(Clone, Debug)]
pub struct Item {
    pub index: usize,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    /// Of the key.
    pub at: Position,
    pub node: Node,
}

/// One step down the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A path as the operator reads it: `services[1].ports[0].protocol`.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// Adds a step and gives the length to [`Path::cut`] back to.
    pub fn push(&mut self, step: Step<'_>) -> usize {
        let length = self.0.len();
        match step {
            Step::Index(index) => {
                write!(self.0, "[{index}]").expect("a String takes all that is written to it");
            }
            Step::Key(key) => {
                if length > 0 {
                    self.0.push('.');
                }
                self.0.push_str(&super::problem::excerpt(key));
            }
        }
        length
    }

    pub fn cut(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(file)" } else { &self.0 })
    }
}

impl Node {
    /// What a copy of this node, and all below it, costs.
    pub fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Text(text) => text.len() / TEXT_PER_VALUE,
            Kind::List(items) => items.iter().map(|item| item.node.size()).sum(),
            Kind::Map(entries) => {
                entries.iter().map(|e| e.node.size() + e.key.len() / TEXT_PER_VALUE).sum()
            }
            _ => 0,
        }
    }

    /// Where the steps lead, counted in this tree, and how the file names it.
    /// What isn't written in the file stands where its nearest parent stands.
    pub fn find(&self, steps: &[Step<'_>]) -> (Path, Position) {
        let mut path = Path::default();
        let mut at = self.at;
        let mut here = Some(self);
        for &step in steps {
            let next = match (step, here.map(|node| &node.kind)) {
                (Step::Key(key), Some(Kind::Map(entries))) => {
                    path.push(step);
                    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
                }
                (Step::Index(index), Some(Kind::List(items))) => {
                    let item = items.get(index);
                    path.push(Step::Index(item.map_or(index, |item| item.index)));
                    item.map(|item| &item.node)
                }
                // `address: 10.0.0.1` is short for a list of one.
                (Step::Index(0), Some(_)) => here,
                _ => {
                    path.push(step);
                    None
                }
            };
            if let Some(node) = next {
                at = node.at;
            }
            here = next;
        }
        (path, at)
    }

    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Integer(value) => i64::try_from(*value)
                .map(Number::from)
                .or_else(|_| u64::try_from(*value).map(Number::from))
                .map_or_else(|_| Value::from(*value as f64), Value::Number),
            Kind::Float(value) => Value::from(*value),
            Kind::Text(value) => Value::String(value.clone()),
            Kind::List(items) => items.iter().map(|item| item.node.to_json()).collect(),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|e| (e.key.clone(), e.node.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}
