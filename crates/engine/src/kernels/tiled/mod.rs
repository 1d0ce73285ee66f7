//! A layer on AMX tiles from end to end: operands in 16 bits or bytes, laid out as tiles read them.
//!
//! Where products run on tiles, what lies between them is what takes the time: sums that leave as
//! `f32`, are read again to be activated, and once more to be rounded. Here a product's sums are
//! finished while they are in the first-level cache and leave in the format of the next operand, and
//! attention is done by tiles too. In reading order: rows to operands ([`pack`]), linear layers
//! ([`product`]), attention ([`attention`]). Only for [`Level::Amx`](super::isa::Level).

pub(crate) mod attention;
pub(crate) mod pack;
pub(crate) mod product;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use super::amx::TILE;
use super::buffer::Buffer;
use super::rows::Rows;

/// Bytes of a tile and of one of its rows.
pub(super) const TILE_BYTES: usize = 1024;
pub(super) const TILE_ROW: usize = 64;

/// 16-bit numbers of a tile's row: a panel's width, so a panel of outputs is a step of the next
/// product's inputs.
pub(super) const HALVES: usize = 32;

/// Rows rounded up to whole tiles.
pub(crate) fn whole_tiles(rows: usize) -> usize {
    rows.next_multiple_of(TILE)
}

/// Activations as tiles read them: 16 rows of 64 bytes, the tiles of 16 rows side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileRows<'a> {
    base: *mut u8,
    /// The number of the first tile of rows.
    origin: usize,
    row_tiles: usize,
    /// Tiles from one row of tiles to the next.
    steps: usize,
    lent: PhantomData<&'a mut [u16]>,
}

// SAFETY: access goes through `unsafe` functions whose callers keep their parts disjoint.
unsafe impl Send for TileRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for TileRows<'_> {}

impl<'a> TileRows<'a> {
    /// 16-bit numbers of memory for `rows` rows of `steps` tiles.
    pub(crate) fn len(rows: usize, steps: usize) -> usize {
        whole_tiles(rows) * steps * HALVES
    }

    /// `rows` rows, each of `steps` tile rows, in `memory`.
    ///
    /// # Panics
    ///
    /// If `memory` is shorter than [`TileRows::len`].
    pub(crate) fn new(memory: &'a mut Buffer<u16>, rows: usize, steps: usize) -> Self {
        assert!(
            memory.len() >= Self::len(rows, steps),
            "tile memory is too short; this is a bug"
        );
        Self {
            base: memory.as_mut_ptr().cast(),
            origin: 0,
            row_tiles: whole_tiles(rows) / TILE,
            steps,
            lent: PhantomData,
        }
    }

    /// The same memory, its first tile of rows numbered `origin`.
    pub(crate) fn starting_at(self, origin: usize) -> Self {
        Self { origin, ..self }
    }

    /// The same rows, seen from `step` on.
    pub(crate) fn skipping_steps(self, step: usize) -> Self {
        debug_assert!(step < self.steps);
        Self {
            base: self.base.wrapping_add(step * TILE_BYTES),
            ..self
        }
    }

    /// The tile at `step` of the 16 rows from `16 · row_tile`.
    pub(super) fn tile(self, row_tile: usize, step: usize) -> *mut u8 {
        debug_assert!((self.origin..self.origin + self.row_tiles).contains(&row_tile));
        debug_assert!(step < self.steps);
        self.base
            .wrapping_add(((row_tile - self.origin) * self.steps + step) * TILE_BYTES)
    }

    /// Where `row` lies in the tile at `step`.
    pub(super) fn at(self, row: usize, step: usize) -> *mut u8 {
        self.tile(row / TILE, step)
            .wrapping_add(row % TILE * TILE_ROW)
    }
}

/// Where bf16 results go: row by row, or as the operand of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Halves<'a> {
    /// Rows of plain numbers.
    Rows(Rows<'a, u16>),
    /// An operand.
    Tiles(TileRows<'a>),
}

impl Halves<'_> {
    /// Where the 32 columns of `panel` of the first row of a tile of rows lie, and the bytes from
    /// each row to the next.
    fn block(self, row_tile: usize, panel: usize) -> (*mut u8, usize) {
        match self {
            Self::Rows(rows) => (
                rows.at(row_tile * TILE, panel * HALVES).cast(),
                rows.stride() * 2,
            ),
            Self::Tiles(tiles) => (tiles.tile(row_tile, panel), TILE_ROW),
        }
    }

    /// Where the block below the one at `base` lies, a tile of rows further.
    fn below(self, base: *mut u8) -> *mut u8 {
        base.wrapping_add(match self {
            Self::Rows(rows) => rows.stride() * 2 * TILE,
            Self::Tiles(tiles) => tiles.steps * TILE_BYTES,
        })
    }

    /// Where `column` of `row` lies; a multiple of 16 has 16 columns side by side.
    fn at(self, row: usize, column: usize) -> *mut u8 {
        match self {
            Self::Rows(rows) => rows.at(row, column).cast(),
            Self::Tiles(tiles) => tiles
                .at(row, column / HALVES)
                .wrapping_add(column % HALVES * 2),
        }
    }
}
