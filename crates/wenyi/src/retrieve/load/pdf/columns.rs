//! Columns of running text that a program writes line by line, so that they look like a table.

use super::lines::{Cell, Line};

/// Rows from which on their lines can be told from a table's.
const FEWEST_ROWS: usize = 5;

/// Words of a line of running text, which the cells of a table rarely have.
const FEWEST_WORDS: usize = 3;

/// The lines of the left column and of the right one, if `rows` are such lines: each of two cells,
/// nearly all of several words, and in both columns at least half of them go on in small letters.
pub(super) fn parted(rows: &[Line]) -> Option<[Vec<Line>; 2]> {
    if rows.len() < FEWEST_ROWS || rows.iter().any(|row| row.cells.len() != 2) {
        return None;
    }
    let column = |index: usize| rows.iter().map(move |row| &row.cells[index]);
    if !is_running_text(column(0)) || !is_running_text(column(1)) {
        return None;
    }
    let lines = |index: usize| {
        let line = |row: &Line| {
            let mut line = row.clone();
            line.cells = vec![row.cells[index].clone()];
            line
        };
        rows.iter().map(line).collect()
    };
    Some([lines(0), lines(1)])
}

fn is_running_text<'a>(cells: impl Iterator<Item = &'a Cell>) -> bool {
    let (mut count, mut long, mut going_on) = (0, 0, 0);
    for cell in cells {
        let text = cell.text.trim();
        count += 1;
        long += usize::from(text.split_whitespace().count() >= FEWEST_WORDS);
        going_on += usize::from(text.starts_with(char::is_lowercase));
    }
    long * 4 >= count * 3 && going_on * 2 >= count
}
