//! The text of a page as it is written: entities, white space, breaks, and where each piece stood.

use super::grid::Grid;
use super::{LONGEST_CELL, Reader};

impl Reader<'_> {
    /// Text from the source, entities decoded, white space collapsed outside of `pre`.
    pub(super) fn literal(&mut self, start: usize, end: usize) {
        if self.hidden.is_some() {
            return;
        }
        let mut at = start;
        while at < end {
            let rest = &self.source[at..end];
            let Some(c) = rest.chars().next() else { break };
            if c.is_ascii_whitespace() && self.in_pre == 0 {
                self.space = true;
                at += 1;
            } else if c == '&' {
                at += self.entity(at, rest);
            } else {
                let stop =
                    rest.find(|c: char| c == '&' || (c.is_ascii_whitespace() && self.in_pre == 0));
                let length = stop.unwrap_or(rest.len());
                self.before_text(at);
                self.point(at);
                self.text.push_str(&rest[..length]);
                at += length;
                self.point(at);
            }
        }
    }

    /// A character reference at the start of `rest`; returns its length in the source.
    fn entity(&mut self, at: usize, rest: &str) -> usize {
        // The longest name, `CounterClockwiseContourIntegral`, has 31 letters.
        let window = rest.as_bytes().iter().take(34);
        let length = window
            .into_iter()
            .position(|&byte| byte == b';')
            .map_or(1, |end| end + 1);
        let decoded = html_escape::decode_html_entities(&rest[..length]);
        if decoded
            .chars()
            .all(|c| c.is_ascii_whitespace() || c == '\u{a0}')
            && self.in_pre == 0
        {
            self.space = true;
            return length;
        }
        self.before_text(at);
        self.point(at);
        self.text.push_str(&decoded);
        self.point(at + length);
        length
    }

    /// What stands between the text before and the one that follows: separators of cells, or a
    /// blank.
    pub(super) fn before_text(&mut self, at: usize) {
        let separators = self.grids.last_mut().map_or(0, Grid::separators);
        if separators > 0 {
            self.space = false;
            self.insert(&" | ".repeat(separators), at);
            return;
        }
        let inside = self.text.len() > self.block_start && !self.text.ends_with(['\n', ' ']);
        if std::mem::take(&mut self.space) && inside {
            self.insert(" ", at);
        }
    }

    /// Text that the source does not have.
    pub(super) fn insert(&mut self, text: &str, at: usize) {
        self.point(at);
        self.text.push_str(text);
        self.point(at);
    }

    fn point(&mut self, source: usize) {
        let point = (self.text.len(), source);
        if self.points.last() != Some(&point) {
            self.points.push(point);
        }
    }

    pub(super) fn line_break(&mut self, at: usize) {
        self.space = false;
        if self.text.len() > self.block_start && !self.text.ends_with('\n') {
            self.insert("\n", at);
        }
    }

    /// The end of a line or a paragraph, which is only a blank in the cell of a table.
    pub(super) fn soft_break(&mut self, at: usize) {
        let in_cell = self.grids.last().is_some_and(|grid| grid.in_cell);
        let line = || self.text.rfind('\n').map_or(0, |end| end + 1);
        if in_cell && self.text.len() - line().max(self.block_start) <= LONGEST_CELL {
            self.space = true;
        } else {
            self.line_break(at);
        }
    }
}
