//! The many rows of a prompt by blocks: each panel is unpacked to bf16 and multiplied on AMX tiles.
//!
//! `from` is rounded to bf16 too, which keeps what a row's largest numbers leave of the others, as
//! bytes would not.

use std::cell::RefCell;
use std::ops::Range;

use super::unpack::Pairs;
use super::{BLOCK, Piece};
use crate::kernels::amx::{Block, RowTile, TILE, Tiles};
use crate::kernels::buffer::Buffer;
use crate::kernels::rows::{PANEL, Rows};
use crate::kernels::simd::{Kernel, Simd};

/// Words of bf16 pairs of a panel's block: one step of the tiles.
const STEP: usize = TILE * PANEL;

/// Words of the panels that are unpacked at a time: while the rows pass by, these stay in a
/// second-level cache, and the more there are, the less often the rows are read.
const GROUP: usize = 3 << 16;

/// The sums of two tiles of rows, on their way to the output.
#[repr(C, align(64))]
struct Sums([f32; 2 * TILE * PANEL]);

thread_local! {
    /// An unpacked panel of this thread.
    static UNPACKED: RefCell<Buffer<i32>> = RefCell::new(Buffer::zeroed(0));
}

/// The product of rows in bf16 with the panels of some pieces; only on a CPU with tiles.
pub(in super::super) struct ByTiles<'a> {
    pub(in super::super) pieces: &'a [Piece],
    /// bf16 by row.
    pub(in super::super) words: Rows<'a, f32>,
    pub(in super::super) blocks: usize,
    /// Padded to whole panels.
    pub(in super::super) bias: &'a [f32],
    pub(in super::super) rows: Range<usize>,
    pub(in super::super) panels: Range<usize>,
    pub(in super::super) out: Rows<'a, f32>,
}

impl Kernel for ByTiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        if self.rows.is_empty() {
            return;
        }
        // Taken out and put back: a closure would be compiled without the vector instructions.
        let mut unpacked = UNPACKED.replace(Buffer::zeroed(0));
        let panel_words = self.blocks * STEP;
        let group = (GROUP / panel_words).clamp(1, self.panels.len().max(1));
        unpacked.reserve(group * panel_words);
        // SAFETY: there are tiles, and no other `Tiles` on this thread: products do not nest. The
        // rest is `Linear::multiply_prompt`'s.
        unsafe {
            let tiles = Tiles::configure(self.rows.len().min(TILE));
            for piece in self.pieces {
                let start = self.panels.start.max(piece.panels.start);
                let end = self.panels.end.min(piece.panels.end);
                for first in (start..end).step_by(group) {
                    let panels = first..(first + group).min(end);
                    for (index, panel) in panels.clone().enumerate() {
                        let to = unpacked[index * panel_words..][..panel_words].as_mut_ptr();
                        piece.unpack::<S, Pairs>(panel, 0..self.blocks, self.blocks, to);
                    }
                    self.multiply::<S>(&tiles, panels, &unpacked);
                }
            }
        }
        UNPACKED.set(unpacked);
    }
}

impl ByTiles<'_> {
    /// All rows by some unpacked panels. The last tile ends with the last row, and so may repeat some
    /// rows of the one before.
    ///
    /// # Safety
    ///
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, tiles: &Tiles, panels: Range<usize>, unpacked: &[i32]) {
        let mut sums = Sums([0.0; 2 * TILE * PANEL]);
        let sums = sums.0.as_mut_ptr();
        let last = self.rows.end - self.rows.len().min(TILE);
        for row in self.rows.clone().step_by(2 * TILE) {
            let (first, second) = (row.min(last), (row + TILE).min(last));
            for (index, panel) in panels.clone().enumerate() {
                let from = &unpacked[index * self.blocks * STEP..][..self.blocks * STEP];
                let block = Block {
                    a_stride: self.words.stride() * 4,
                    a_step: 4 * TILE,
                    b: from.as_ptr().cast(),
                    steps: self.blocks,
                    start_stride: 0,
                };
                let bias = self.bias[panel * PANEL..][..PANEL].as_ptr();
                let tile = |row, sums: *mut f32| RowTile {
                    a: self.words.at(row, 0).cast_const().cast(),
                    start: bias.cast(),
                    sums: sums.cast(),
                };
                // SAFETY: rows and panels are in range, rows of activations hold whole blocks, and
                // `sums` has room for two tiles.
                unsafe {
                    if row + TILE < self.rows.end {
                        let high = sums.add(TILE * PANEL);
                        tiles.pair_of_bf16(&block, [tile(first, sums), tile(second, high)]);
                        self.store::<S>(high, second, panel);
                    } else {
                        tiles.one_of_bf16(&block, tile(first, sums));
                    }
                    self.store::<S>(sums, first, panel);
                }
            }
        }
    }

    /// Writes the sums of the tile that begins at `row`.
    ///
    /// # Safety
    ///
    /// As [`Kernel::run`]; `sums` holds a tile's rows of 32 columns.
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, sums: *const f32, row: usize, panel: usize) {
        for offset in 0..self.rows.len().min(TILE) {
            for column in (0..PANEL).step_by(S::LANES) {
                // SAFETY: vectors divide a panel; the rows are this job's.
                unsafe {
                    let value = S::load(sums.add(offset * PANEL + column));
                    S::store(self.out.at(row + offset, panel * PANEL + column), value);
                }
            }
        }
    }
}

const _: () = assert!(BLOCK == 2 * TILE, "a block is one step of bf16 tiles");
