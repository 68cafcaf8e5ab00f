//! What commands print, and how it gets to standard output.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, Write},
};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

/// The width that every table fits.
pub const WIDTH: u16 = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs; the keys are stable
    Json,
    /// As json, in YAML
    Yaml,
}

/// `-o`, for every command that shows something.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Output {
    /// How to print it
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Output {
    /// For commands that print more than one thing.
    pub fn format(self) -> Format {
        self.format
    }

    /// Prints `value`: as data, or as `text` makes it for people.
    pub fn print<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Table => print(&text(value)),
            Format::Json => print(&(serde_json::to_string_pretty(value)? + "\n")),
            Format::Yaml => print(&serde_saphyr::to_string(&value)?),
        }
    }
}

/// Writes to standard output. A reader that left (`mesh-agent status | head`)
/// has seen what it wanted.
pub fn print(text: &str) -> anyhow::Result<()> {
    write(text).map(drop)
}

/// [`print`], for a stream: `false` where the reader left.
pub fn write(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let text = if colour { paint(text) } else { text.to_owned() };
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("cannot write to standard output"),
    }
}

/// How wide what is shown may be: as the terminal, and where there is none as
/// every table.
pub fn width() -> usize {
    let size = terminal_size::terminal_size_of(io::stdout());
    size.map_or(usize::from(WIDTH), |(width, _)| width.0.max(40).into())
}

/// As much of a text as there is room for.
pub fn fit(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept = text.chars().take(room.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// Signs that stand before a state. Colour only repeats what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Good,
    Warning,
    Bad,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "✓",
            Self::Warning => "!",
            Self::Bad => "✗",
        })
    }
}

/// Colours each sign and the word after it.
fn paint(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some((at, sign, colour)) = find_sign(rest) {
            let word = at + sign.len() + 1;
            let end = rest[word..].find([' ', ',', ':', '\n']).map_or(rest.len(), |end| word + end);
            painted.push_str(&rest[..at]);
            painted.push_str(&format!("\x1b[{colour}m{}\x1b[0m", &rest[at..end]));
            rest = &rest[end..];
        }
        painted.push_str(rest);
    }
    painted
}

/// The first sign that begins a word and has one after it.
fn find_sign(text: &str) -> Option<(usize, &'static str, u8)> {
    [("✓", 32), ("!", 33), ("✗", 31)]
        .into_iter()
        .filter_map(|(sign, colour)| {
            let found = text.match_indices(sign).map(|(at, _)| at).find(|&at| {
                (at == 0 || text[..at].ends_with(' ')) && text[at + sign.len()..].starts_with(' ')
            });
            found.map(|at| (at, sign, colour))
        })
        .min()
}

/// A table without lines: columns are told apart by space, and where it would
/// be too wide, the cells of the widest columns wrap.
pub fn table<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    grid(Some(headers), &rows.into_iter().collect::<Vec<_>>())
}

/// Names and values, below each other.
pub fn fields(rows: &[[String; 2]]) -> String {
    grid(None, rows)
}

fn grid<const N: usize>(headers: Option<[&str; N]>, rows: &[[String; N]]) -> String {
    let widths = widths(headers.unwrap_or([""; N]), rows);
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH + GAP)
        .add_rows(rows);
    if let Some(headers) = headers {
        table.set_header(headers);
    }
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, GAP));
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + GAP)));
    }
    lines(&table.to_string())
}

/// Between columns.
const GAP: u16 = 2;

/// How wide each column's content may be, so that all of them fit. Left to
/// itself the library takes from narrow columns too, and breaks their words.
fn widths<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> [u16; N] {
    let width = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let mut widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| width(&row[column]));
        cells.chain([width(headers[column]), 1]).max().unwrap_or(1)
    });
    let room = usize::from(WIDTH) - usize::from(GAP) * N.saturating_sub(1);
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 1 => *widest -= 1,
            _ => break,
        }
    }
    widths.map(|width| u16::try_from(width).unwrap_or(WIDTH))
}

/// Without spaces at the ends of lines, and with a newline at the end.
fn lines(text: &str) -> String {
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_whatever_they_hold() {
        let long = "x".repeat(80);
        let text = table(["NAME", "WHAT"], [[long.clone(), long + " y"], ["a".into(), "b".into()]]);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.lines().all(|line| !line.ends_with(' ')));
        assert_eq!(table(["A", "B"], [["1".into(), "22".into()]]), "A  B\n1  22\n");
    }

    #[test]
    fn colour_repeats_the_sign() {
        assert_eq!(paint("a  ✗ missing: x\n"), "a  \x1b[31m✗ missing\x1b[0m: x\n");
        assert_eq!(paint("✓ ok ! hm\n"), "\x1b[32m✓ ok\x1b[0m \x1b[33m! hm\x1b[0m\n");
        assert_eq!(paint("no sign here! at all\n"), "no sign here! at all\n");
    }
}
