//! A Rust file, taken apart into code and comments line by line, so that a
//! check never stumbles over a word in a string. Not a parser: the checks ask
//! about words and braces only, and `syn` would drop the comments they need.

/// One tracked file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub lines: Vec<Line>,
}

/// One line: its code, with strings emptied, and the text of its comments.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Line {
    pub code: String,
    pub comment: String,
    /// Inside an item that is compiled for tests only.
    pub is_test: bool,
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Self {
        let mut source = Self { path: path.to_owned(), lines: split(text) };
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            source.lines.iter_mut().for_each(|line| line.is_test = true);
        } else {
            source.mark_tests();
        }
        source
    }

    /// The lines that are not compiled for tests only, numbered from 1.
    pub fn code(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().filter(|(_, line)| !line.is_test).map(|(i, l)| (i + 1, l))
    }

    /// Marks each item under `#[cfg(test)]`, to its closing brace or semicolon.
    fn mark_tests(&mut self) {
        let mut index = 0;
        while index < self.lines.len() {
            if self.lines[index].code.trim_start().starts_with("#[cfg(test)]") {
                let end = self.item_end(index);
                self.lines[index..=end].iter_mut().for_each(|line| line.is_test = true);
                index = end;
            }
            index += 1;
        }
    }

    fn item_end(&self, start: usize) -> usize {
        let mut depth = 0usize;
        for (index, line) in self.lines.iter().enumerate().skip(start) {
            for letter in line.code.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth <= 1 => return index,
                    '}' => depth -= 1,
                    ';' if depth == 0 => return index,
                    _ => {}
                }
            }
        }
        self.lines.len() - 1
    }
}

/// What the next letter belongs to.
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    String { hashes: Option<usize> },
}

fn split(text: &str) -> Vec<Line> {
    let letters: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut index = 0;
    while index < letters.len() {
        let rest = &letters[index..];
        if rest[0] == '\n' {
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            lines.push(Line::default());
            index += 1;
            continue;
        }
        let line = lines.last_mut().expect("there is a first line, and lines are only added");
        let (next, used) = step(&state, rest, line);
        if let Some(next) = next {
            state = next;
        }
        index += used;
    }
    lines
}

/// Takes one token off `rest`; the state after it where that changes, and its length.
fn step(state: &State, rest: &[char], line: &mut Line) -> (Option<State>, usize) {
    match state {
        State::Code => step_code(rest, line),
        State::LineComment => {
            line.comment.push(rest[0]);
            (None, 1)
        }
        State::BlockComment { depth } if rest.starts_with(&['*', '/']) => {
            let depth = depth - 1;
            (Some(if depth == 0 { State::Code } else { State::BlockComment { depth } }), 2)
        }
        State::BlockComment { depth } if rest.starts_with(&['/', '*']) => {
            (Some(State::BlockComment { depth: depth + 1 }), 2)
        }
        State::BlockComment { .. } => {
            line.comment.push(rest[0]);
            (None, 1)
        }
        State::String { hashes: None } if rest[0] == '\\' => {
            // A line that a backslash continues still counts as a line.
            (None, if rest.get(1) == Some(&'\n') { 1 } else { 2 })
        }
        State::String { hashes } => {
            let hashes = hashes.unwrap_or(0);
            let ends = rest[0] == '"'
                && rest.len() > hashes
                && rest[1..=hashes].iter().all(|letter| *letter == '#');
            if ends {
                line.code.push('"');
            }
            (ends.then_some(State::Code), if ends { 1 + hashes } else { 1 })
        }
    }
}

fn step_code(rest: &[char], line: &mut Line) -> (Option<State>, usize) {
    if rest.starts_with(&['/', '/']) {
        return (Some(State::LineComment), 2);
    }
    if rest.starts_with(&['/', '*']) {
        return (Some(State::BlockComment { depth: 1 }), 2);
    }
    let in_word = line.code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    if rest[0] == 'r' && (!in_word || line.code.ends_with('b') || line.code.ends_with('c')) {
        let hashes = rest[1..].iter().take_while(|letter| **letter == '#').count();
        if rest.get(1 + hashes) == Some(&'"') {
            line.code.push('"');
            return (Some(State::String { hashes: Some(hashes) }), 2 + hashes);
        }
    }
    if rest[0] == '"' {
        line.code.push('"');
        return (Some(State::String { hashes: None }), 1);
    }
    if rest[0] == '\''
        && let Some(used) = character(rest)
    {
        line.code.push_str("' '");
        return (None, used);
    }
    line.code.push(rest[0]);
    (None, 1)
}

/// The length of the character literal that begins here; a lifetime is none.
fn character(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', ..] => Some(rest.iter().skip(3).position(|letter| *letter == '\'')? + 4),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> (String, String) {
        let mut lines = Source::parse("a.rs", text).lines;
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = lines.remove(0);
        (line.code, line.comment)
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let cases = [
            ("a // b", "a ", " b"),
            ("a /* b /* c */ d */ e", "a  e", " b  c  d "),
            (r#"f("unsafe // no")"#, r#"f("")"#, ""),
            (r#"f("\"unsafe")"#, r#"f("")"#, ""),
            (r###"f(r#"x " y"#) // z"###, r#"f("") "#, " z"),
            (r#"f(br"x\") // z"#, r#"f(b"") "#, " z"),
            (r"f('{', '\'', '\u{7b}') // z", "f(' ', ' ', ' ') ", " z"),
            ("fn f<'a>(x: &'a str) {", "fn f<'a>(x: &'a str) {", ""),
        ];
        for (text, code, comment) in cases {
            assert_eq!(line(text), (code.to_owned(), comment.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_string_over_lines_keeps_their_number() {
        let source = Source::parse("a.rs", "f(\"a \\\n  todo!() \\\n b\");\ng();");
        let code: Vec<_> = source.lines.iter().map(|line| line.code.as_str()).collect();
        assert_eq!(code, ["f(\"", "", "\");", "g();"]);
    }

    #[test]
    fn a_file_of_tests_is_all_tests() {
        assert_eq!(Source::parse("a/src/b/tests.rs", "a();").code().count(), 0);
        assert_eq!(Source::parse("a/src/tests/b.rs", "a();").code().count(), 0);
        assert_eq!(Source::parse("tests/src/lib.rs", "a();").code().count(), 1);
    }

    #[test]
    fn test_items_end_with_their_brace() {
        let text = "a();\n#[cfg(test)]\nmod tests {\n  fn f() { \"}\"; }\n}\nb();\n\
                    #[cfg(test)]\nuse x;\nc();";
        let source = Source::parse("a.rs", text);
        let code: Vec<_> = source.code().map(|(number, line)| (number, &*line.code)).collect();
        assert_eq!(code, [(1, "a();"), (6, "b();"), (9, "c();")]);
    }
}
