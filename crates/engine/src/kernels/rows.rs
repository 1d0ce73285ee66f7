//! Matrices that the members of a team fill together, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

use super::buffer::Number;

/// Columns of a packed panel; every row stride is a multiple of it, so vectors never straddle rows.
pub(crate) const PANEL: usize = 32;

/// `columns` rounded up to whole panels.
pub(crate) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(PANEL)
}

/// A row-major matrix lent out in parts: `rows` × `stride` numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a, T> {
    base: *mut T,
    /// The number of the first row.
    origin: usize,
    rows: usize,
    stride: usize,
    lent: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `unsafe` methods whose callers keep their parts disjoint.
unsafe impl<T: Number> Send for Rows<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Number> Sync for Rows<'_, T> {}

impl<'a, T: Number> Rows<'a, T> {
    /// The first `rows · stride` numbers of `memory`.
    ///
    /// # Panics
    ///
    /// If `memory` is shorter.
    pub(crate) fn new(memory: &'a mut [T], rows: usize, stride: usize) -> Self {
        assert!(
            memory.len() >= rows * stride,
            "matrix memory is too short; this is a bug"
        );
        Self {
            base: memory.as_mut_ptr(),
            origin: 0,
            rows,
            stride,
            lent: PhantomData,
        }
    }

    /// The same memory, its first row numbered `origin`.
    pub(crate) fn starting_at(self, origin: usize) -> Self {
        Self { origin, ..self }
    }

    /// The same rows, seen from `column` on.
    pub(crate) fn skipping_columns(self, column: usize) -> Self {
        debug_assert!(column < self.stride);
        Self {
            base: self.base.wrapping_add(column),
            ..self
        }
    }

    /// One past the number of the last row.
    pub(crate) fn end(self) -> usize {
        self.origin + self.rows
    }

    pub(crate) fn stride(self) -> usize {
        self.stride
    }

    /// Where `row` begins at `column`.
    pub(crate) fn at(self, row: usize, column: usize) -> *mut T {
        debug_assert!((self.origin..self.end()).contains(&row) && column < self.stride);
        // Within the allocation, so the plain offset cannot wrap.
        self.base
            .wrapping_add((row - self.origin) * self.stride + column)
    }

    /// One row.
    ///
    /// # Safety
    ///
    /// Nobody else uses this row meanwhile.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub(crate) unsafe fn row(self, row: usize) -> &'a mut [T] {
        // SAFETY: the caller's.
        unsafe { self.span(row..row + 1) }
    }

    /// Some neighbouring rows.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile.
    ///
    /// # Panics
    ///
    /// If the rows are not there.
    pub(crate) unsafe fn span(self, rows: Range<usize>) -> &'a mut [T] {
        let inside = self.origin <= rows.start && rows.start <= rows.end && rows.end <= self.end();
        assert!(inside, "no such rows; this is a bug");
        // SAFETY: inside the memory given to `new`; exclusiveness is the caller's.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.add((rows.start - self.origin) * self.stride),
                rows.len() * self.stride,
            )
        }
    }
}
