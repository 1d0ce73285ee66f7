//! What a loader writes: text, its blocks, and where both stand in the file.

use crate::retrieve::chunk::structure::{Block, BlockKind};

use super::SkipReason;
use super::html::Page;
use super::places::{Places, Unit};

/// Text taken from one file beyond which it is refused: a library of books, or a bomb.
const MOST_TEXT: usize = 256 << 20;

/// Gaps of one file that are told; a file with more is damaged as a whole.
const MOST_GAPS: usize = 100;

/// A document as it grows. Blocks are a blank line apart; rows of a table and items of a list
/// stand on lines of one block.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
    pub(super) places: Option<Places>,
    /// `(text, source)` as in [`super::SourceMap`], for files that have lines of their own.
    pub(super) points: Vec<(usize, usize)>,
    /// What of the file could not be read, though the rest was; see [`Draft::gap`].
    pub(super) gaps: Vec<SkipReason>,
    /// The title that the file tells, if that is not its first heading.
    pub(super) title: Option<String>,
    /// Line feeds in `text`.
    pub(super) num_breaks: u64,
    /// True if the next row or item begins a block of its own.
    pub(super) closed: bool,
}

impl Draft {
    pub(super) fn heading(&mut self, level: u8, title: &str) {
        let title = collapsed(title);
        if title.is_empty() {
            return;
        }
        let kind = BlockKind::Heading {
            level: level.clamp(1, 9),
            title: title.clone(),
        };
        self.block(kind, &title);
    }

    /// A paragraph; white space within it collapses, its line breaks stay.
    pub(super) fn paragraph(&mut self, text: &str) {
        let lines: Vec<String> = text.lines().map(collapsed).collect();
        self.block(BlockKind::Paragraph, lines.join("\n").trim());
    }

    /// Goes on with the last block on a new line, which stands on another page.
    pub(super) fn go_on(&mut self, unit: Unit, number: u64, text: &str) {
        let line = self.num_breaks + 2;
        let places = self.places.get_or_insert_with(|| Places::new(unit));
        places.push(line, number, None);
        self.write("\n");
        self.write(text);
        if let Some(last) = self.blocks.last_mut() {
            last.span.end = self.text.len();
        }
    }

    /// Text whose spaces mean something.
    pub(super) fn code(&mut self, text: &str) {
        self.block(BlockKind::Code, text.trim_end());
    }

    /// An item of a list; `depth` from 0.
    pub(super) fn item(&mut self, depth: usize, text: &str) {
        self.marked_item(depth, "-", text);
    }

    /// An item with a number, or another mark, of its own.
    pub(super) fn marked_item(&mut self, depth: usize, mark: &str, text: &str) {
        let line = format!("{}{mark} {}", "  ".repeat(depth.min(8)), collapsed(text));
        self.line(BlockKind::List, &line);
    }

    /// A row of a table; cells without text at its end are left out.
    pub(super) fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        self.line(BlockKind::Table, &joined(cells));
    }

    /// The next row or item begins a new table or list.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// What is written from here on stands on page (slide, row, chapter) `number`.
    pub(super) fn place(&mut self, unit: Unit, number: u64, name: Option<&str>) {
        // The next block begins behind a blank line; a row that goes on, on the next line.
        let line = match self.blocks.last() {
            None => 1,
            Some(block) if self.goes_on(block, unit) => self.num_breaks + 2,
            Some(_) => self.num_breaks + 3,
        };
        let places = self.places.get_or_insert_with(|| Places::new(unit));
        places.push(line, number, name);
    }

    fn goes_on(&self, last: &Block, unit: Unit) -> bool {
        unit == Unit::Row && !self.closed && last.kind == BlockKind::Table
    }

    /// Puts a page of HTML behind this, its headings `deeper` levels down.
    pub(super) fn append_page(&mut self, page: &Page, deeper: u8) {
        self.append_blocks(&page.text, &page.blocks, deeper);
    }

    /// Puts what another loader wrote behind this, its headings `deeper` levels down.
    pub(super) fn append(&mut self, other: &Self, deeper: u8) {
        self.append_blocks(&other.text, &other.blocks, deeper);
        for reason in &other.gaps {
            self.gap(reason.clone());
        }
    }

    fn append_blocks(&mut self, text: &str, blocks: &[Block], deeper: u8) {
        for block in blocks {
            let text = &text[block.span.clone()];
            let kind = match &block.kind {
                BlockKind::Heading { level, title } => BlockKind::Heading {
                    level: level.saturating_add(deeper).min(9),
                    title: title.clone(),
                },
                kind => kind.clone(),
            };
            self.block(kind, text);
        }
    }

    /// Notes that a part of the file could not be read.
    pub(super) fn gap(&mut self, reason: SkipReason) {
        if self.gaps.len() < MOST_GAPS {
            self.gaps.push(reason);
        }
    }

    /// What was read of the part called `name`; nothing if it is damaged, which is noted.
    ///
    /// # Errors
    ///
    /// What concerns the whole file: a password, or more than any file may hold.
    pub(super) fn part<T>(
        &mut self,
        name: &str,
        read: Result<T, SkipReason>,
    ) -> Result<Option<T>, SkipReason> {
        match read {
            Ok(part) => Ok(Some(part)),
            Err(reason @ (SkipReason::Encrypted | SkipReason::TooMuch { .. })) => Err(reason),
            Err(SkipReason::Broken { message }) if message.contains(name) => {
                self.gap(SkipReason::Broken { message });
                Ok(None)
            }
            Err(reason) => {
                let message = match reason {
                    SkipReason::Broken { message } => message,
                    other => other.to_string(),
                };
                let message = format!("its part `{name}`: {message}");
                self.gap(SkipReason::Broken { message });
                Ok(None)
            }
        }
    }

    /// Takes back the blocks from `index` on, which must be the last ones that were written.
    pub(super) fn remove_from(&mut self, index: usize) {
        let end = match index.checked_sub(1).and_then(|last| self.blocks.get(last)) {
            Some(block) => block.span.end,
            None => 0,
        };
        self.blocks.truncate(index);
        self.num_breaks -= self.text[end..].matches('\n').count() as u64;
        self.text.truncate(end);
    }

    /// Adds a block as it is.
    pub(super) fn block(&mut self, kind: BlockKind, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        if !self.blocks.is_empty() {
            self.write("\n\n");
        }
        let start = self.text.len();
        self.write(text);
        let span = start..self.text.len();
        self.blocks.push(Block { kind, span });
        self.closed = false;
    }

    fn line(&mut self, kind: BlockKind, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let goes_on = self.blocks.last().is_some_and(|last| last.kind == kind);
        if !goes_on || self.closed {
            return self.block(kind, line);
        }
        self.write("\n");
        self.write(line);
        if let Some(last) = self.blocks.last_mut() {
            last.span.end = self.text.len();
        }
    }

    fn write(&mut self, text: &str) {
        self.num_breaks += text.bytes().filter(|&byte| byte == b'\n').count() as u64;
        self.text.push_str(text);
    }

    /// # Errors
    ///
    /// If the file has more text than any reader has time for.
    pub(super) fn expect_room(&self) -> Result<(), SkipReason> {
        if self.text.len() > MOST_TEXT {
            return Err(SkipReason::TooMuch {
                limit: MOST_TEXT as u64,
            });
        }
        Ok(())
    }
}

/// One line of `cells`, `a | b | c`.
pub(super) fn joined<S: AsRef<str>>(cells: &[S]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| collapsed(cell.as_ref())).collect();
    let used = cells.iter().rposition(|cell| !cell.is_empty());
    cells[..used.map_or(0, |last| last + 1)].join(" | ")
}

/// The text on one line, without control characters and doubled blanks.
pub(super) fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_items_share_a_block_until_it_is_closed() {
        let mut draft = Draft::default();
        draft.heading(1, " A \t title ");
        draft.row(&["a", "", "b\nc", ""]);
        draft.row(&["1"]);
        draft.close();
        draft.row(&["2"]);
        draft.item(1, "x");
        let texts: Vec<_> = draft
            .blocks
            .iter()
            .map(|block| &draft.text[block.span.clone()])
            .collect();
        assert_eq!(texts, ["A title", "a |  | b c\n1", "2", "  - x"]);
    }

    #[test]
    fn places_follow_the_lines() {
        let mut draft = Draft::default();
        draft.place(Unit::Row, 1, Some("S"));
        draft.heading(1, "S");
        for row in [2, 3, 7] {
            draft.place(Unit::Row, row, Some("S"));
            draft.row(&[row.to_string()]);
        }
        assert_eq!(draft.text, "S\n\n2\n3\n7");
        let places = draft.places.unwrap();
        let rows: Vec<_> = [1, 3, 4, 5]
            .map(|line| places.locate(line, line).unwrap().first)
            .into();
        assert_eq!(rows, [1, 2, 3, 7]);
    }
}
