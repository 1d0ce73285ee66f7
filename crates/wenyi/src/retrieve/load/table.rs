//! Rows of a sheet or a CSV file: the first is the header if it looks like one, and stands above
//! every passage of the rows like a heading.

use super::draft::{Draft, joined};

/// A header beyond this many bytes is a row like any other.
const LONGEST_HEADER: usize = 600;

pub(super) struct Table {
    /// The level of the heading that a header is.
    level: u8,
    begun: bool,
}

impl Table {
    pub(super) fn new(level: u8) -> Self {
        Self {
            level,
            begun: false,
        }
    }

    /// Adds a row; `place` is called right before it is written.
    pub(super) fn row(
        &mut self,
        draft: &mut Draft,
        cells: &[String],
        place: impl FnOnce(&mut Draft),
    ) {
        let is_header = !std::mem::replace(&mut self.begun, true) && is_header(cells);
        if is_header {
            draft.close();
            place(draft);
            draft.heading(self.level, &joined(cells));
        } else {
            place(draft);
            draft.row(cells);
        }
    }
}

/// True for at least two names of columns: texts without numbers, each once.
fn is_header(cells: &[String]) -> bool {
    let named: Vec<&str> = cells
        .iter()
        .map(|cell| cell.trim())
        .filter(|cell| !cell.is_empty())
        .collect();
    let is_name = |cell: &&str| {
        cell.contains(char::is_alphabetic)
            && cell.chars().count() <= 80
            && !cell.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut distinct = named.clone();
    distinct.sort_unstable();
    distinct.dedup();
    named.len() >= 2
        && named.iter().all(is_name)
        && distinct.len() == named.len()
        && named.iter().map(|cell| cell.len()).sum::<usize>() <= LONGEST_HEADER
}
