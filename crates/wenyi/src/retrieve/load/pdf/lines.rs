//! Pieces of text to lines: what stands on one base line belongs together, wide gaps part cells.

use super::content::Piece;
use crate::retrieve::sentences::is_cjk;

/// Gaps from this many font sizes on part the cells of a table.
const CELL_GAP: f32 = 1.6;

/// Gaps from this many font sizes on part cells if a row beside has its cells there, too.
const COLUMN_GAP: f32 = 0.6;

/// Gaps from this many font sizes on are a space that the file does not write.
const SPACE_GAP: f32 = 0.2;

/// Cells of a line, and gaps of a cell that are remembered; no table is as wide.
const MOST_CELLS: usize = 256;

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
    gaps: Vec<Gap>,
}

/// A gap inside of a cell that may part two after all.
#[derive(Clone, Debug)]
struct Gap {
    /// Bytes of the cell's text before it.
    at: usize,
    left: f32,
    right: f32,
}

impl Line {
    fn new(piece: &Piece) -> Self {
        Self {
            cells: vec![Cell::new(piece)],
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
        if self.cells.len() >= MOST_CELLS {
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
            if is_apart(&last.text, gap, size) {
                self.cells.push(Cell::new(piece));
            } else {
                last.append(Cell::new(piece), gap, size);
            }
        } else {
            // Written later, but it stands before or between.
            let overlaps =
                |cell: &Cell| piece.left < cell.right - 1.0 && cell.left < piece.right - 1.0;
            if self.cells.iter().any(overlaps) {
                return false;
            }
            self.insert(piece, size);
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

    /// Puts the piece where it stands among the cells: into the one before or behind it, if there
    /// is no wide gap, for some programs write the columns of a row, and these letter by letter, in
    /// any order.
    fn insert(&mut self, piece: &Piece, size: f32) {
        let mut at = self.cells.partition_point(|cell| cell.left < piece.left);
        let before = at
            .checked_sub(1)
            .and_then(|before| self.cells.get_mut(before));
        match before {
            Some(cell) if !is_apart(&cell.text, piece.left - cell.right, size) => {
                let gap = piece.left - cell.right;
                cell.append(Cell::new(piece), gap, size);
                at -= 1;
            }
            _ => self.cells.insert(at, Cell::new(piece)),
        }
        let (cell, behind) = (&self.cells[at], self.cells.get(at + 1));
        let gap = behind.map(|behind| behind.left - cell.right);
        if let Some(gap) = gap.filter(|&gap| !is_apart(&cell.text, gap, size)) {
            let behind = self.cells.remove(at + 1);
            self.cells[at].append(behind, gap, size);
        }
    }
}

impl Cell {
    fn new(piece: &Piece) -> Self {
        Self {
            text: piece.text.clone(),
            left: piece.left,
            right: piece.right,
            gaps: Vec::new(),
        }
    }

    /// Adds what stands `gap` behind.
    fn append(&mut self, mut other: Cell, gap: f32, size: f32) {
        let at = self.text.len();
        join(
            &mut self.text,
            &other.text,
            gap > size * SPACE_GAP,
            gap / size,
        );
        let start = self.text.len() - other.text.len();
        if gap > size * COLUMN_GAP && self.gaps.len() < MOST_CELLS {
            let (left, right) = (self.right, other.left);
            self.gaps.push(Gap { at, left, right });
        }
        self.gaps.extend(other.gaps.drain(..).map(|gap| Gap {
            at: gap.at + start,
            ..gap
        }));
        self.right = self.right.max(other.right);
    }

    /// The two cells that a gap parts.
    fn parted(mut self, index: usize) -> (Self, Self) {
        let mut behind = self.gaps.split_off(index);
        let gap = behind.remove(0);
        for later in &mut behind {
            later.at -= gap.at;
        }
        let second = Self {
            text: self.text.split_off(gap.at),
            left: gap.right,
            right: self.right,
            gaps: behind,
        };
        self.right = gap.left;
        (self, second)
    }
}

/// True if what stands `gap` behind `text` is another cell.
fn is_apart(text: &str, gap: f32, size: f32) -> bool {
    gap > size * CELL_GAP && !is_mark(text)
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
    align(&mut lines);
    for line in &mut lines {
        line.cells.retain(|cell| !cell.text.trim().is_empty());
        for cell in &mut line.cells {
            shorten_leaders(&mut cell.text);
        }
    }
    if !is_in_order(&lines) {
        lines.sort_by(|a, b| {
            let order = a.turn.cmp(&b.turn).then(a.y.total_cmp(&b.y));
            order.then(a.left().total_cmp(&b.left()))
        });
    }
    lines
}

/// Parts the cells of tables with narrow gaps: where the row above or below has a cell that begins
/// or ends at the same place.
fn align(lines: &mut [Line]) {
    for at in 1..lines.len() {
        let (above, below) = lines.split_at_mut(at);
        below[0].align_with(&above[at - 1]);
    }
    for at in (1..lines.len()).rev() {
        let (above, below) = lines.split_at_mut(at);
        above[at - 1].align_with(&below[0]);
    }
}

impl Line {
    fn align_with(&mut self, row: &Self) {
        let near = self.size * 0.25;
        let beside = (self.y - row.y).abs() < self.size * 3.0 && self.turn == row.turn;
        if row.cells.len() < 2 || !beside {
            return;
        }
        let begins = |x: f32| {
            row.cells[1..]
                .iter()
                .any(|cell| (cell.left - x).abs() < near)
        };
        let ends = |x: f32| {
            row.cells[1..]
                .iter()
                .any(|cell| (cell.right - x).abs() < near)
        };
        let mut cells = Vec::new();
        for mut cell in std::mem::take(&mut self.cells) {
            let mut index = 0;
            while let Some(gap) = cell.gaps.get(index) {
                let end = cell
                    .gaps
                    .get(index + 1)
                    .map_or(cell.right, |next| next.left);
                if begins(gap.right) || ends(end) {
                    let (first, second) = cell.parted(index);
                    cells.push(first);
                    (cell, index) = (second, 0);
                } else {
                    index += 1;
                }
            }
            cells.push(cell);
        }
        self.cells = cells;
    }
}

/// `Overview ........ 4` to `Overview … 4`: the dots of a table of contents are ends of sentences to
/// whoever reads on, and tokens without meaning.
fn shorten_leaders(text: &mut String) {
    /// An ellipsis has three.
    const FEWEST_DOTS: usize = 5;
    let is_leader = |c: char| matches!(c, '.' | ' ' | '·' | '…' | '．');
    let dots = |run: &str| run.chars().filter(|&c| c != ' ').count();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_leader) {
        let run = &rest[start..];
        let (run, after) = run.split_at(run.find(|c| !is_leader(c)).unwrap_or(run.len()));
        out.push_str(&rest[..start]);
        out.push_str(if dots(run) < FEWEST_DOTS {
            run
        } else {
            " … "
        });
        rest = after;
    }
    out.push_str(rest);
    *text = out;
}

/// True unless lines jump up the page more often than columns and captions explain.
fn is_in_order(lines: &[Line]) -> bool {
    let jumps = lines
        .windows(2)
        .filter(|pair| pair[1].y < pair[0].y - pair[0].size)
        .count();
    jumps <= 3 || jumps * 5 <= lines.len()
}
