//! A terminal that is drawn over again and again, and left as it was.

use std::io::{self, IsTerminal as _, Write as _};

use terminal_size::{Height, Width, terminal_size_of};

use crate::cli::output;

/// Another page, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Where the view is shown: in place on a terminal, else one after the other.
#[derive(Debug)]
pub struct Screen {
    drawn: bool,
    /// Shown again when the terminal is itself again.
    last: String,
}

impl Screen {
    /// Takes over standard output, where it is a terminal that can be drawn on.
    pub fn open() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let drawn = io::stdout().is_terminal() && !dumb;
        if drawn {
            send(ENTER);
        }
        Self { drawn, last: String::new() }
    }

    /// Shows a view; `false` where nobody reads any more.
    pub fn show(&mut self, view: String) -> anyhow::Result<bool> {
        if !self.drawn {
            let gap = if self.last.is_empty() { "" } else { "\n" };
            let shown = output::write(&format!("{gap}{view}"));
            self.last = view;
            return shown;
        }
        let size = terminal_size_of(io::stdout());
        let (Width(width), Height(height)) = size.unwrap_or((Width(output::WIDTH), Height(24)));
        let page = page(&view, width.into(), height.into());
        self.last = view;
        output::write(&page)
    }
}

/// Each line over the one before, and nothing of what was below.
fn page(view: &str, width: usize, height: usize) -> String {
    let lines: Vec<_> = view.lines().collect();
    let room = height.saturating_sub(1).max(1);
    let mut page = String::from("\x1b[H");
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        page += &output::fit(line, width);
        page += "\x1b[K\r\n";
    }
    if shown < lines.len() {
        page += &output::fit(&format!("… {} more lines", lines.len() - shown), width);
        page += "\x1b[K";
    }
    page + "\x1b[J"
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.drawn {
            send(LEAVE);
            // Who can't be written to can't be told either.
            let _ = output::write(&self.last);
        }
    }
}

fn send(codes: &str) {
    let mut stdout = io::stdout().lock();
    // As above.
    let _ = stdout.write_all(codes.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_its_terminal() {
        let view: String = (0..9).map(|line| format!("line {line} is long\n")).collect();
        let page = page(&view, 8, 5);
        assert_eq!(page.matches("\x1b[K").count(), 4, "{page:?}");
        assert!(page.contains("line 0 …") && page.contains("… 6 mor…"), "{page:?}");
        let whole = super::page(&view, 80, 24);
        assert!(whole.starts_with("\x1b[Hline 0 is long\x1b[K\r\n") && whole.ends_with("\x1b[J"));
    }
}
