//! Text that comes piece by piece, broken into lines as [`super::wrap`] breaks what is whole.

use std::mem;

use unicode_width::UnicodeWidthStr;

use super::wrap::units;

/// Where a text that is still coming stands on its line.
///
/// The last word is held back until it is known to be whole: once printed it cannot be taken to the
/// next line.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Columns of a line; none where lines are not to be broken.
    width: Option<usize>,
    column: usize,
    /// Blanks before the next word; they vanish where the line breaks.
    blank: String,
    /// What may yet grow.
    pending: String,
}

impl Flow {
    /// Breaks lines at `width` columns, or passes text on as it comes: what a file or a pipe gets is
    /// the text itself.
    pub(crate) fn new(width: Option<usize>) -> Self {
        Self {
            width,
            column: 0,
            blank: String::new(),
            pending: String::new(),
        }
    }

    /// Takes the next piece; returns what is to be printed now.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.width.is_none() {
            return text.to_owned();
        }
        self.pending.push_str(text);
        let mut ready = String::new();
        while let Some(end) = self.pending.find('\n') {
            let line: String = self.pending.drain(..=end).collect();
            self.words(line.trim_end_matches('\n'), &mut ready);
            self.blank.clear();
            ready.push('\n');
            self.column = 0;
        }
        let last = units(&self.pending).last().map_or(0, |last| last.start);
        let whole: String = self.pending.drain(..last).collect();
        self.words(&whole, &mut ready);
        ready
    }

    /// Takes a word that is `plain` with attributes; returns what is to be printed now.
    pub(crate) fn painted(&mut self, plain: &str, painted: &str) -> String {
        let mut ready = self.rest();
        match self.width {
            Some(_) => self.word(plain, painted, &mut ready),
            None => ready.push_str(painted),
        }
        ready
    }

    /// What was held back; nothing follows that belongs to the last word.
    pub(crate) fn rest(&mut self) -> String {
        let mut ready = String::new();
        let pending = mem::take(&mut self.pending);
        self.words(&pending, &mut ready);
        ready
    }

    fn words(&mut self, text: &str, ready: &mut String) {
        for unit in units(text) {
            let unit = &text[unit];
            if unit.trim().is_empty() {
                self.blank.push_str(unit);
            } else {
                self.word(unit, unit, ready);
            }
        }
    }

    fn word(&mut self, plain: &str, painted: &str, ready: &mut String) {
        let (width, columns) = (self.width.unwrap_or(usize::MAX), plain.width());
        let blank = mem::take(&mut self.blank);
        if self.column > 0 && self.column + blank.width() + columns > width {
            ready.push('\n');
            self.column = 0;
        } else {
            ready.push_str(&blank);
            self.column += blank.width();
        }
        ready.push_str(painted);
        self.column += columns;
        if self.column > width {
            // The terminal itself breaks a word that is wider than its line.
            self.column = (self.column - 1) % width.max(1) + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::wrap::wrap;

    /// The text as it is printed, in pieces of so many characters.
    fn flowed(text: &str, width: usize, piece: usize) -> String {
        let mut flow = Flow::new(Some(width));
        let characters: Vec<char> = text.chars().collect();
        let mut printed = String::new();
        for piece in characters.chunks(piece) {
            printed.push_str(&flow.push(&piece.iter().collect::<String>()));
        }
        printed + &flow.rest()
    }

    #[test]
    fn a_stream_is_broken_where_the_whole_text_would_be() {
        let text = "The port is 7345, as 配置文件（在 home 目录）所写，“快”而准。 Naïve café.\n\n    \
                    indented words go on and on\nlast";
        for width in 14..60 {
            let lines = wrap(text, width).into_iter().map(|line| &text[line]);
            let expected = lines.collect::<Vec<_>>().join("\n");
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(flowed(text, width, piece), expected, "{width} {piece}");
            }
        }
    }

    #[test]
    fn attributes_take_no_columns() {
        let mut flow = Flow::new(Some(10));
        let mut printed = flow.push("one two ");
        printed.push_str(&flow.painted("[?]", "\x1b[1;31m[?]\x1b[0m"));
        printed.push_str(&flow.push(" three"));
        printed.push_str(&flow.rest());
        assert_eq!(printed, "one two\n\x1b[1;31m[?]\x1b[0m three");
    }

    #[test]
    fn a_pipe_gets_each_piece_at_once() {
        let mut flow = Flow::new(None);
        assert_eq!(flow.push("half a wo"), "half a wo");
        assert_eq!(flow.painted("[?]", "[?]"), "[?]");
        assert_eq!(flow.rest(), "");
    }
}
