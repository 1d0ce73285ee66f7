//! Pieces of text to lines: what stands on one base line belongs together, wide gaps part cells.

use super::content::Piece;
use crate::retrieve::sentences::is_cjk;

/// Gaps from this many font sizes on part the cells of a table.
const CELL_GAP: f32 = 1.6;

/// Gaps from this many font sizes on are a space that the file does not write.
const SPACE_GAP: f32 = 0.2;

/// How far back a line is looked for that a piece belongs to.
const LOOK_BACK: usize = 6;

/// A line of a page.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) cells: Vec<Cell>,
    /// Its base line, greater is lower.
    pub(super) y: f32,
    pub(super) size: f32,
    pub(super) is_bold: bool,
    pub(super) is_monospaced: bool,
    turn: u8,
}

/// Text without a wide gap.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) left: f32,
    pub(super) right: f32,
}

impl Line {
    fn new(piece: &Piece) -> Self {
        Self {
            cells: vec![Cell {
                text: piece.text.clone(),
                left: piece.left,
                right: piece.right,
            }],
            y: piece.line,
            size: piece.size,
            is_bold: piece.is_bold,
            is_monospaced: piece.is_monospaced,
            turn: piece.turn,
        }
    }

    pub(super) fn left(&self) -> f32 {
        self.cells.first().map_or(0.0, |cell| cell.left)
    }

    pub(super) fn right(&self) -> f32 {
        self.cells.last().map_or(0.0, |cell| cell.right)
    }

    pub(super) fn text(&self) -> String {
        let cells: Vec<&str> = self.cells.iter().map(|cell| cell.text.trim()).collect();
        cells.join(" ")
    }

    /// Adds the piece if it stands on this line, behind it or in a gap of it.
    fn take(&mut self, piece: &Piece, is_last: bool) -> bool {
        let size = self.size.max(piece.size).max(1.0);
        if self.turn != piece.turn || (self.y - piece.line).abs() > size * 0.4 {
            return false;
        }
        let Some(last) = self.cells.last_mut() else {
            return false;
        };
        let gap = piece.left - last.right;
        if gap > -size * 0.6 && (is_last || gap > 0.0) {
            // The same text once more, a little aside, is how some programs print bold.
            if gap < -size * 0.3 && last.text.ends_with(&piece.text) {
                return true;
            }
            if gap > size * CELL_GAP && !is_mark(&last.text) {
                self.cells.push(Cell {
                    text: piece.text.clone(),
                    left: piece.left,
                    right: piece.right,
                });
            } else {
                join(
                    &mut last.text,
                    &piece.text,
                    gap > size * SPACE_GAP,
                    gap / size,
                );
                last.right = last.right.max(piece.right);
            }
        } else {
            // Written later, but it stands before or between: a cell of its own.
            let overlaps =
                |cell: &Cell| piece.left < cell.right - 1.0 && cell.left < piece.right - 1.0;
            if self.cells.iter().any(overlaps) {
                return false;
            }
            let at = self.cells.partition_point(|cell| cell.left < piece.left);
            self.cells.insert(
                at,
                Cell {
                    text: piece.text.clone(),
                    left: piece.left,
                    right: piece.right,
                },
            );
        }
        if !piece.text.trim().is_empty() {
            // A line is as large as its largest text; a footnote's mark does not count.
            if piece.size > self.size {
                (self.size, self.y) = (piece.size, piece.line);
            }
            self.is_bold &= piece.is_bold;
            self.is_monospaced &= piece.is_monospaced;
        }
        true
    }
}

/// A bullet or a number before an item: the gap behind it is no column.
fn is_mark(text: &str) -> bool {
    let text = text.trim();
    let length = text.chars().count();
    let is_bullet = length == 1 && !text.contains(char::is_alphanumeric);
    let is_number = length <= 6
        && text.ends_with(['.', ')', '、', '）'])
        && text.contains(char::is_alphanumeric);
    is_bullet || is_number
}

fn join(before: &mut String, after: &str, is_space: bool, gap: f32) {
    let both_cjk =
        before.chars().last().is_some_and(is_cjk) && after.chars().next().is_some_and(is_cjk);
    // Ideographs are set apart without meaning a space.
    let is_space = is_space && (!both_cjk || gap > 0.8);
    if is_space && !before.ends_with(' ') && !after.starts_with(' ') {
        before.push(' ');
    }
    before.push_str(after);
}

/// The lines of a page in reading order.
pub(super) fn lines(pieces: &[Piece]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for piece in pieces {
        let blank = piece.text.trim().is_empty();
        let length = lines.len();
        let recent = lines.iter_mut().enumerate().rev().take(LOOK_BACK);
        let taken = recent
            .filter(|(index, _)| !blank || index + 1 == length)
            .any(|(index, line)| line.take(piece, index + 1 == length));
        if !taken && !blank {
            lines.push(Line::new(piece));
        }
    }
    lines.retain(|line| line.cells.iter().any(|cell| !cell.text.trim().is_empty()));
    for line in &mut lines {
        line.cells.retain(|cell| !cell.text.trim().is_empty());
    }
    if !is_in_order(&lines) {
        lines.sort_by(|a, b| {
            let order = a.turn.cmp(&b.turn).then(a.y.total_cmp(&b.y));
            order.then(a.left().total_cmp(&b.left()))
        });
    }
    lines
}

/// True unless lines jump up the page more often than columns and captions explain.
fn is_in_order(lines: &[Line]) -> bool {
    let jumps = lines
        .windows(2)
        .filter(|pair| pair[1].y < pair[0].y - pair[0].size)
        .count();
    jumps <= 3 || jumps * 5 <= lines.len()
}
