//! The columns of a table, so that a value stands in its own where cells before it are empty, or
//! reach over several columns or rows.

/// Columns that one cell reaches over at most, as in browsers.
const MOST_COLUMNS: usize = 1000;

/// Rows that one cell reaches over at most, as in browsers.
const MOST_ROWS: usize = 65_534;

/// Cells of a page that are empty because of such spans; a few bytes of tags make a thousand.
pub(super) const MOST_SPANNED: usize = 1 << 20;

/// Where reading is in a table.
#[derive(Default)]
pub(super) struct Grid {
    row: usize,
    /// The column of the open cell.
    column: usize,
    /// The column of the next cell.
    next: usize,
    /// Separators that were written in this row.
    written: usize,
    pub(super) in_cell: bool,
    /// The block was ended inside of this row.
    is_cut: bool,
    /// For each column the row from which on it is free of cells that began above.
    free_from: Vec<usize>,
}

impl Grid {
    /// A row begins or ends.
    pub(super) fn row(&mut self, closing: bool) {
        self.row += usize::from(!closing);
        (self.column, self.next, self.written) = (0, 0, 0);
        (self.in_cell, self.is_cut) = (false, false);
    }

    /// A cell begins; `room` is what may still be spanned. `is_first` tells that nothing stands on
    /// its line yet.
    pub(super) fn cell(&mut self, columns: usize, rows: usize, room: &mut usize, is_first: bool) {
        let mut spend = |wanted: usize| {
            let spent = wanted.min(*room);
            *room -= spent;
            spent
        };
        while self
            .free_from
            .get(self.next)
            .is_some_and(|&row| row > self.row)
            && spend(1) == 1
        {
            self.next += 1;
        }
        self.column = self.next;
        self.next += 1 + spend(columns.clamp(1, MOST_COLUMNS) - 1);
        if rows > 1 && self.next <= MOST_COLUMNS {
            if self.free_from.len() < self.next {
                self.free_from.resize(self.next, 0);
            }
            self.free_from[self.column..self.next].fill(self.row + rows.min(MOST_ROWS));
        }
        self.in_cell = true;
        if self.is_cut && is_first {
            self.written = self.column;
        }
    }

    /// The block ends, wherever reading is.
    pub(super) fn cut(&mut self) {
        if self.in_cell {
            (self.is_cut, self.written) = (true, self.column);
        }
    }

    /// How many separators stand before the text that follows.
    pub(super) fn separators(&mut self) -> usize {
        if !self.in_cell {
            return 0;
        }
        let missing = self.column.saturating_sub(self.written);
        self.written += missing;
        missing
    }
}
