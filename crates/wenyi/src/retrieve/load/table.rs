//! Rows of a sheet or a CSV file: the first is the header if it looks like one, and stands above
//! every passage of the rows like a heading. Titles may stand above it.

use super::draft::{Draft, joined};

/// A header beyond this many bytes is a row like any other.
const LONGEST_HEADER: usize = 600;

/// Rows of a single cell, such as titles and remarks, that a header may stand below.
const MOST_TITLES: usize = 8;

pub(super) struct Table {
    /// The level of the heading that a header is.
    level: u8,
    /// Rows of a single cell so far.
    titles: usize,
    /// The row that a header could be has come.
    begun: bool,
}

impl Table {
    pub(super) fn new(level: u8) -> Self {
        Self {
            level,
            titles: 0,
            begun: false,
        }
    }

    /// Adds a row; `place` is called right before it is written. `next` is the row below it, which
    /// tells whether years are names of columns or values in them.
    pub(super) fn row(
        &mut self,
        draft: &mut Draft,
        cells: &[String],
        next: Option<&[String]>,
        place: impl FnOnce(&mut Draft),
    ) {
        if self.expects_header(cells, next) && is_header(cells, next) {
            draft.close();
            place(draft);
            draft.heading(self.level, &joined(cells));
        } else {
            place(draft);
            draft.row(cells);
        }
    }

    /// True until the header may have come, and [`Self::row`] looks at the row below.
    pub(super) fn is_at_start(&self) -> bool {
        !self.begun
    }

    /// True for the first row of more than one cell, near the top.
    fn expects_header(&mut self, cells: &[String], next: Option<&[String]>) -> bool {
        if self.begun {
            return false;
        }
        let several = has_several(cells);
        self.titles += usize::from(!several);
        self.begun = several || self.titles > MOST_TITLES;
        // Below lines of text with a comma here and there is no table.
        several && (self.titles == 0 || next.is_some_and(has_several))
    }
}

fn has_several(cells: &[String]) -> bool {
    cells.iter().filter(|cell| !cell.trim().is_empty()).count() > 1
}

/// True for at least two names of columns: texts without numbers, or years, each once.
fn is_header(cells: &[String], next: Option<&[String]>) -> bool {
    let named: Vec<&str> = cells
        .iter()
        .map(|cell| cell.trim())
        .filter(|cell| !cell.is_empty())
        .collect();
    let mut distinct = named.clone();
    distinct.sort_unstable();
    distinct.dedup();
    named.len() >= 2
        && named.iter().all(|cell| is_name(cell) || is_year(cell))
        && distinct.len() == named.len()
        && named.iter().map(|cell| cell.len()).sum::<usize>() <= LONGEST_HEADER
        && years_are_names(cells, next)
}

fn is_name(cell: &str) -> bool {
    cell.contains(char::is_alphabetic)
        && cell.chars().count() <= 80
        && !cell.starts_with(|c: char| c.is_ascii_digit())
}

/// `2023`, `2023/24`, `2023年`, `2023-04`, `2023 Q1`.
fn is_year(cell: &str) -> bool {
    let digits = cell.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && (cell.starts_with("19") || cell.starts_with("20")) && cell.chars().count() <= 16
}

/// False if years stand below the years, as in a first row of values, or nothing that would tell.
/// Years in sequence are names of columns all the same.
fn years_are_names(cells: &[String], next: Option<&[String]>) -> bool {
    let years: Vec<usize> = (0..cells.len())
        .filter(|&column| is_year(cells[column].trim()))
        .collect();
    let Some(next) = next else {
        return years.len() < cells.len();
    };
    let below = |column: usize| {
        let cell = next.get(column).map_or("", |cell| cell.trim());
        cell.is_empty() || is_year(cell)
    };
    let numbers: Vec<u32> = years
        .iter()
        .filter_map(|&column| cells[column].trim().parse().ok())
        .collect();
    let in_sequence = numbers.len() >= 2
        && numbers
            .windows(2)
            .all(|pair| pair[0].abs_diff(pair[1]) == 1);
    in_sequence || !years.into_iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[&[&str]]) -> String {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect();
        let (mut draft, mut table) = (Draft::default(), Table::new(1));
        for (index, row) in rows.iter().enumerate() {
            let next = rows.get(index + 1).map(Vec::as_slice);
            table.row(&mut draft, row, next, |_| {});
        }
        let texts = draft.blocks.iter().filter_map(|block| {
            let is_heading = !matches!(
                block.kind,
                crate::retrieve::chunk::structure::BlockKind::Table
            );
            is_heading.then(|| draft.text[block.span.clone()].to_owned())
        });
        texts.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn years_and_rows_below_a_title_are_headers_and_values_are_not() {
        let north: &[&str] = &["North", "1", "2"];
        let cases: [(&[&[&str]], &str); 8] = [
            (
                &[&["Region", "2023", "2024"], north],
                "Region | 2023 | 2024",
            ),
            (&[&["", "2023", "2024"], north], "| 2023 | 2024"),
            (&[&["Name", "2023"], &["Anna", "7"]], "Name | 2023"),
            (&[&["Anna", "1985"], &["Ben", "1990"]], ""),
            (
                &[
                    &["Sales of the year", "", ""],
                    &["Item", "Euro"],
                    &["a", "3"],
                ],
                "Item | Euro",
            ),
            (&[&["North", "12", "14"], &["Item", "Euro"]], ""),
            (&[&["I like fruit"], &["apples", "pears"], &["plums"]], ""),
            (&[&["1999", "2003"], &["2001", "2002"]], ""),
        ];
        for (rows, header) in cases {
            assert_eq!(headers(rows), header, "{rows:?}");
        }
    }
}
