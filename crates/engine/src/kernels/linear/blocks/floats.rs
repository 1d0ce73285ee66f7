//! The many rows of a prompt by blocks, where there are neither tiles nor products of bytes: panels are
//! unpacked to `f32` part by part, and each part is multiplied with many rows while it is in cache.
//!
//! Two bytes of activations by one of weights take more steps than the CPU needs for `f32`, which
//! is exact besides.

use super::super::multiply::{Multiply, Place};
use super::super::tile::{ByF32, Factors, for_row_tiles};
use super::unpack::{Floats, Form};
use super::{BLOCK, Piece};
use crate::kernels::rows::PANEL;
use crate::kernels::simd::{Kernel, Simd};

/// Blocks that are unpacked at a time: half of a first-level cache.
const PART: usize = 4;

/// Bytes of activations that stay in a second-level cache while the panels pass by.
const CACHED: usize = 1 << 18;

/// Fewer rows than this are not worth unpacking the weights again.
const FEWEST: usize = 96;

/// Unpacked blocks of a panel.
#[repr(C, align(64))]
struct Unpacked([i32; PART * Floats::STEP]);

/// The product of rows in `f32` with the panels of some pieces.
pub(in super::super) struct ByFloats<'a> {
    pub(in super::super) job: Multiply<'a>,
    pub(in super::super) pieces: &'a [Piece],
    /// Of a row.
    pub(in super::super) blocks: usize,
}

impl Kernel for ByFloats<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let row_bytes = self.blocks * BLOCK * size_of::<f32>();
        let most = (CACHED / row_bytes).max(FEWEST).next_multiple_of(12);
        let (rows, panels) = (self.job.rows.clone(), self.job.panels.clone());
        let mut unpacked = Unpacked([0; PART * Floats::STEP]);
        let to = unpacked.0.as_mut_ptr();
        for first in rows.clone().step_by(most) {
            let rows = first..(first + most).min(rows.end);
            for piece in self.pieces {
                let start = panels.start.max(piece.panels.start);
                for panel in start..panels.end.min(piece.panels.end) {
                    for block in (0..self.blocks).step_by(PART) {
                        let blocks = block..(block + PART).min(self.blocks);
                        // SAFETY: rows and panels are in range; see `Linear::multiply_prompt`.
                        unsafe {
                            piece.unpack::<S, Floats>(panel, blocks.clone(), self.blocks, to);
                            let part = blocks.start * BLOCK..blocks.end * BLOCK;
                            for_row_tiles!(S, rows.len(), |offset, ROWS| {
                                let place = Place {
                                    row: rows.start + offset,
                                    panel,
                                    part: part.clone(),
                                    words: self.blocks * BLOCK,
                                };
                                let factors = Factors {
                                    a: self.job.input.at(place.row, part.start),
                                    a_stride: self.job.input.stride(),
                                    b: to.cast_const().cast(),
                                    b_stride: PANEL,
                                    words: part.len(),
                                    start: None,
                                };
                                self.job.tile::<S, ByF32, ROWS>(&factors, place, None);
                            });
                        }
                    }
                }
            }
        }
    }
}
