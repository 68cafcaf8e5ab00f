//! YAML text to a tree with positions.
//!
//! Plain scalars are read by YAML 1.2's core schema: `off`, `no` and `1:30`
//! are text. What could be misread or blow up is refused: a second document,
//! repeated keys, tags, merge keys (as unknown keys), deep nesting, and
//! aliases that multiply beyond the bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::{
    node::{Entry, Item, Kind, Node, Position, Step, TEXT_PER_VALUE},
    problem::{Problems, excerpt},
};

/// Of the file, bytes.
pub const MAX_SIZE: usize = 16 << 20;
const MAX_DEPTH: usize = 32;
/// Values in the tree with aliases written out; of what an alias repeats, each
/// [`TEXT_PER_VALUE`] bytes of text count as one more.
const MAX_VALUES: usize = 4_000_000;

/// The tree, or what is wrong with the text. Repeated keys are reported in
/// `problems` and the first one stays, so that the rest can be checked too.
pub fn read(text: &str, problems: &mut Problems) -> Result<Node, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(problems);
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(text, &error))?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                let message = "a second document starts here: one file holds one configuration; \
                               remove the `---` or split the file";
                return Err(Problems::one(position(span.start), message.into()));
            }
        }
        builder.take(event, span)?;
    }
    let empty = "the file is empty: it needs at least `services` and `capture`; \
                 see docs/configuration.md for an example";
    match builder.root {
        None => Err(Problems::one(Position::START, empty.into())),
        Some(Node { kind: Kind::Null, .. }) => Err(Problems::one(Position::START, empty.into())),
        Some(node) => Ok(node),
    }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

fn syntax(text: &str, error: &ScanError) -> Problems {
    let at = position(*error.marker());
    let mut message = format!("not valid YAML: {}", error.info());
    let before = (text.lines().skip(at.line.saturating_sub(2)).take(2))
        .any(|line| line.trim_start_matches(' ').starts_with('\t'));
    if before {
        message.push_str("; a line here is indented with a tab, use spaces");
    }
    Problems::one(at, message)
}

struct Builder<'a> {
    problems: &'a mut Problems,
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
}

/// A list or mapping that hasn't ended yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a mapping: the key whose value comes next.
    key: Option<(String, Position)>,
    /// In a mapping of more than [`FEW`] keys: the line of each so far. Few
    /// are found faster by looking through them.
    seen: HashMap<String, usize>,
}

const FEW: usize = 16;

impl Open {
    /// Where this key stands already.
    fn line_of(&self, key: &str) -> Option<usize> {
        match &self.node.kind {
            Kind::Map(entries) if entries.len() <= FEW => {
                entries.iter().find(|entry| entry.key == key).map(|entry| entry.at.line)
            }
            _ => self.seen.get(key).copied(),
        }
    }
}

impl<'a> Builder<'a> {
    fn new(problems: &'a mut Problems) -> Self {
        Self { problems, root: None, open: Vec::new(), anchors: HashMap::new(), values: 0 }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problems> {
        let at = position(span.start);
        if let Event::Scalar(.., Some(_))
        | Event::SequenceStart(_, Some(_))
        | Event::MappingStart(_, Some(_)) = event
        {
            let message = "tags (`!…`) are not supported: write the plain value, \
                           with quotes where it is text";
            return Err(Problems::one(at, message.into()));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                if self.expects_key() {
                    self.keep(anchor, || Node { at, kind: Kind::Text(text.to_string()) })?;
                    self.key(text.into_owned(), at);
                    return Ok(());
                }
                // An empty value has no place of its own: its key's is clearer.
                let empty = text.is_empty() && style == ScalarStyle::Plain;
                let key = self.open.last().and_then(|open| open.key.as_ref());
                let at = key.filter(|_| empty).map_or(at, |&(_, at)| at);
                self.value(Node { at, kind: scalar(&text, style) }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.start(at, Kind::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.start(at, Kind::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser ends only what it started");
                self.value(open.node, open.anchor)
            }
            Event::Alias(id) => self.alias(id, at),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(open.node.kind, Kind::Map(_)))
    }

    fn start(&mut self, at: Position, kind: Kind, anchor: usize) -> Result<(), Problems> {
        if self.expects_key() {
            let message = "a list or mapping can't be a key: keys are plain words; \
                           `{{ … }}` from a template engine must be rendered first";
            return Err(Problems::one(at, message.into()));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Problems::one(at, message));
        }
        let node = Node { at, kind };
        self.open.push(Open { node, anchor, key: None, seen: HashMap::new() });
        Ok(())
    }

    fn alias(&mut self, id: usize, at: Position) -> Result<(), Problems> {
        let Some(node) = self.anchors.get(&id) else {
            let message = "this alias stands inside of what it refers to";
            return Err(Problems::one(at, message.into()));
        };
        if self.expects_key() {
            let Kind::Text(key) = &node.kind else {
                return Err(Problems::one(at, "a key must be text".into()));
            };
            let key = key.clone();
            self.count(1 + key.len() / TEXT_PER_VALUE, at)?;
            self.key(key, at);
            return Ok(());
        }
        let size = node.size();
        self.count(size, at)?;
        let node = self.anchors[&id].clone();
        self.value(node, 0)
    }

    fn count(&mut self, values: usize, at: Position) -> Result<(), Problems> {
        self.values += values;
        if self.values > MAX_VALUES {
            let message = format!(
                "more than {MAX_VALUES} values, aliases written out: use fewer or smaller aliases"
            );
            return Err(Problems::one(at, message));
        }
        Ok(())
    }

    fn keep(&mut self, anchor: usize, node: impl FnOnce() -> Node) -> Result<(), Problems> {
        if anchor != 0 {
            let node = node();
            self.count(node.size(), node.at)?;
            self.anchors.insert(anchor, node);
        }
        Ok(())
    }

    fn key(&mut self, key: String, at: Position) {
        let open = self.open.last_mut().expect("a key stands in a mapping");
        if let Some(line) = open.line_of(&key) {
            let mut path = self.path();
            path.push(Step::Key(&key));
            let message = format!(
                "`{}` is given twice: the first one is in line {line}; remove one",
                excerpt(&key)
            );
            self.problems.push(at, path, message);
        }
        let open = self.open.last_mut().expect("as above");
        open.key = Some((key, at));
    }

    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Problems> {
        self.count(1, node.at)?;
        self.keep(anchor, || node.clone())?;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        if let Kind::List(items) = &mut open.node.kind {
            items.push(Item { index: items.len(), node });
            return Ok(());
        }
        let (key, at) = open.key.take().expect("the key came before its value");
        let repeated = open.line_of(&key).is_some();
        if let Kind::Map(entries) = &mut open.node.kind
            && !repeated
        {
            entries.push(Entry { key, at, node });
            let unlisted = if entries.len() == FEW + 1 { 0 } else { entries.len() - 1 };
            if entries.len() > FEW {
                let lines = entries[unlisted..].iter().map(|e| (e.key.clone(), e.at.line));
                open.seen.extend(lines);
            }
        }
        Ok(())
    }

    /// Of the mapping that is open now.
    fn path(&self) -> super::node::Path {
        let mut path = super::node::Path::default();
        let last = self.open.len().saturating_sub(1);
        for open in &self.open[..last] {
            match (&open.key, &open.node.kind) {
                (Some((key, _)), _) => path.push(Step::Key(key)),
                (None, Kind::List(items)) => path.push(Step::Index(items.len())),
                _ => continue,
            };
        }
        path
    }
}

/// YAML 1.2, section 10.3.2.
fn scalar(text: &str, style: ScalarStyle) -> Kind {
    if style != ScalarStyle::Plain {
        return Kind::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    integer(text)
        .map(Kind::Integer)
        .or_else(|| float(text).map(Kind::Float))
        .unwrap_or_else(|| Kind::Text(text.to_owned()))
}

fn integer(text: &str) -> Option<i128> {
    let digits = |radix, digits: &str| {
        let plain = digits.chars().all(|c| c.is_digit(radix));
        plain.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(16, hex);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(8, octal);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    digits(10, rest).map(|value| sign * value)
}

fn float(text: &str) -> Option<f64> {
    let plain =
        text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let has_digit = text.contains(|c: char| c.is_ascii_digit());
    (plain && has_digit).then(|| text.parse().ok()).flatten()
}
