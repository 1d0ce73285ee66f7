//! Lines of several cells to the rows of a table.
//!
//! A file writes neither empty cells nor which lines are of one row. Where a row has fewer cells than the
//! widest ones, its cells are put below theirs; a line that only goes on with the text of a cell is
//! added to it. What does not fit below the widest rows stays as it stands.

use super::lines::{Cell, Line};

/// Lines of a cell stand no further apart than this many font sizes.
const LEADING: f32 = 1.6;

/// Lines of running text stand this many font sizes apart.
const TIGHT: f32 = 1.35;

/// A line is of the row above if it is nearer to it than this share of the distance between rows.
const NEARER: f32 = 0.85;

/// The rows of the table that begins with `lines[0]`, and how many lines it has.
pub(super) fn read(lines: &[Line]) -> Option<(Vec<Vec<String>>, usize)> {
    let mut last_row = None;
    let mut num_rows = 0;
    let mut end = 0;
    while let Some(line) = lines.get(end) {
        if is_row(line) {
            (last_row, num_rows) = (Some(line), num_rows + 1);
        } else if !last_row.is_some_and(|row| goes_on(row, &lines[end - 1..])) {
            break;
        }
        end += 1;
    }
    (num_rows >= 2).then(|| (rows(&lines[..end]), end))
}

pub(super) fn is_row(line: &Line) -> bool {
    line.cells.len() >= 2
}

/// True if the second of `lines` goes on with a cell of `row`, which the first is part of: in a later column it
/// stands by itself, in the first only within a table whose rows are further apart.
fn goes_on(row: &Line, lines: &[Line]) -> bool {
    let [last, line, below @ ..] = lines else {
        return false;
    };
    let size = line.size.max(1.0);
    let distance = line.y - last.y;
    let is_alike = (line.size - last.size).abs() < size * 0.12;
    // Code beside remarks is no table.
    if line.is_monospaced || !is_alike || distance <= 0.0 || distance > size * LEADING {
        return false;
    }
    let Some((column, cell)) = column_of(row, line).zip(line.cells.first()) else {
        return false;
    };
    // What reaches below the next column is a line of text.
    let behind = row.cells.get(column + 1);
    let is_inside = behind.is_none_or(|behind| cell.right < behind.left);
    let is_nearer = || {
        let below = below.first().filter(|below| is_row(below));
        below.is_some_and(|below| distance < (below.y - line.y) * NEARER)
    };
    is_inside && (column > 0 || is_nearer())
}

/// The cell of `row` that the only cell of `line` begins below.
fn column_of(row: &Line, line: &Line) -> Option<usize> {
    let [cell] = &line.cells[..] else {
        return None;
    };
    let near = line.size.max(1.0) * 0.5;
    row.cells
        .iter()
        .position(|above| (above.left - cell.left).abs() < near)
}

fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let columns = Columns::of(lines);
    let gap = columns.as_ref().and_then(|columns| columns.gap(lines));
    let mut rows: Vec<Vec<String>> = Vec::new();
    let (mut last_row, mut last_y) = (&lines[0], f32::MIN);
    for line in lines {
        let texts = line.cells.iter().map(|cell| cell.text.trim().to_owned());
        let places = columns.as_ref().and_then(|columns| columns.places(line));
        let places = places.or_else(|| Some(vec![column_of(last_row, line)?]));
        let row = match places {
            None => texts.collect(),
            Some(places) => {
                let distance = line.y - last_y;
                let is_near = match gap {
                    Some(gap) => distance < gap * NEARER,
                    // Of a single row, more than a name is not left out.
                    None => places[0] > 1 && distance <= line.size * TIGHT,
                };
                let is_more = !is_row(line) || (places[0] > 0 && is_near);
                let mut row = match is_more {
                    true => rows.pop().unwrap_or_default(),
                    false => Vec::new(),
                };
                for (place, text) in places.into_iter().zip(texts) {
                    add(&mut row, place, &text);
                }
                row
            }
        };
        rows.push(row);
        last_y = line.y;
        if is_row(line) {
            last_row = line;
        }
    }
    rows
}

/// Puts a text into a column, behind what stands there.
fn add(row: &mut Vec<String>, place: usize, text: &str) {
    if row.len() <= place {
        row.resize(place + 1, String::new());
    }
    let cell = &mut row[place];
    if !cell.is_empty() {
        cell.push(' ');
    }
    cell.push_str(text);
}

/// Where the columns of a table stand, by its widest rows.
struct Columns(Vec<(f32, f32)>);

impl Columns {
    /// `None` if the widest rows do not agree.
    fn of(lines: &[Line]) -> Option<Self> {
        let most = lines.iter().map(|line| line.cells.len()).max()?;
        let mut columns = vec![(f32::MAX, f32::MIN); most];
        for line in lines.iter().filter(|line| line.cells.len() == most) {
            for (column, cell) in columns.iter_mut().zip(&line.cells) {
                *column = (column.0.min(cell.left), column.1.max(cell.right));
            }
        }
        let is_apart = columns.windows(2).all(|pair| pair[0].1 < pair[1].0);
        is_apart.then_some(Self(columns))
    }

    /// The columns of a line's cells; `None` unless each has one of its own.
    fn places(&self, line: &Line) -> Option<Vec<usize>> {
        if line.cells.len() == self.0.len() {
            return Some((0..self.0.len()).collect());
        }
        let mut places: Vec<usize> = Vec::new();
        for cell in &line.cells {
            let place = self.place(cell, line.size)?;
            if places.last().is_some_and(|last| place <= *last) {
                return None;
            }
            places.push(place);
        }
        Some(places)
    }

    /// The only column that a cell stands in, or the nearest one beside it.
    fn place(&self, cell: &Cell, size: f32) -> Option<usize> {
        let distance =
            |&(left, right): &(f32, f32)| (left - cell.right).max(cell.left - right).max(0.0);
        let mut within = (0..self.0.len()).filter(|&index| distance(&self.0[index]) <= 0.0);
        if let Some(place) = within.next() {
            // A title above several columns is of none.
            return within.next().is_none().then_some(place);
        }
        let nearest = (0..self.0.len())
            .min_by(|&a, &b| distance(&self.0[a]).total_cmp(&distance(&self.0[b])))?;
        (distance(&self.0[nearest]) < size * 2.0).then_some(nearest)
    }

    /// The least distance of two rows below each other that both have a first cell.
    fn gap(&self, lines: &[Line]) -> Option<f32> {
        let begins = |line: &Line| {
            line.cells.len() > 1 && self.places(line).is_some_and(|places| places[0] == 0)
        };
        let mut rows = lines.iter().filter(|line| begins(line)).peekable();
        let mut gaps: Vec<f32> = Vec::new();
        while let Some(row) = rows.next() {
            if let Some(next) = rows.peek() {
                gaps.push(next.y - row.y);
            }
        }
        gaps.into_iter()
            .filter(|gap| *gap > 0.0)
            .min_by(f32::total_cmp)
    }
}
