//! The feed-forward block's inner width, which goes from one product to the next by parts.
//!
//! Each part is scaled and summed for itself, whether it exists alone (a group of rows) or beside the
//! others (few rows, shared out by columns); so a row's results do not depend on how many rows there are.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;

use super::{Operand, TILE};
use crate::kernels::buffer::Buffer;
use crate::kernels::linear::PART;
use crate::kernels::rows::{PANEL, Rows, padded};
use crate::kernels::tiled::pack::{self, Source};
use crate::kernels::tiled::{Halves, TileRows, product};

/// A part of the inner width.
#[derive(Clone, Debug)]
pub(super) struct Part {
    index: usize,
    columns: Range<usize>,
}

impl Part {
    /// The parts of `width` columns, in order.
    pub(super) fn all(width: usize) -> impl Iterator<Item = Self> {
        (0..width.div_ceil(PART)).map(move |index| Self {
            index,
            columns: index * PART..((index + 1) * PART).min(width),
        })
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Its panels among those of the first product's results.
    pub(super) fn panels(&self) -> Range<usize> {
        self.columns.start / PANEL..self.columns.end.div_ceil(PANEL)
    }

    /// Its steps among those of the last product's inputs.
    pub(super) fn steps(&self, operand: Operand) -> Range<usize> {
        let columns = columns_a_step(operand);
        self.columns.start / columns..self.columns.end.div_ceil(columns)
    }
}

/// Columns of a row of a tile.
fn columns_a_step(operand: Operand) -> usize {
    match operand {
        Operand::Halves => 32,
        Operand::Bytes => 64,
    }
}

/// Memory of an [`Inner`], kept between passes.
#[derive(Debug)]
pub(super) struct InnerMemory {
    operand: Buffer<u16>,
    halves: Buffer<u16>,
    scales: Buffer<f32>,
}

impl InnerMemory {
    pub(super) fn new() -> Self {
        Self {
            operand: Buffer::zeroed(0),
            halves: Buffer::zeroed(0),
            scales: Buffer::zeroed(0),
        }
    }

    /// Makes room for `rows` rows of `width` columns.
    pub(super) fn reserve(&mut self, rows: usize, width: usize) {
        let steps = product::half_steps(width);
        self.operand.reserve(TileRows::len(rows, steps));
        self.halves.reserve(rows * padded(width));
        self.scales.reserve(rows * scales_a_row(width));
    }

    /// `rows` rows of `width` columns, as they were reserved.
    pub(super) fn lend(&mut self, rows: usize, width: usize) -> Inner<'_> {
        let steps = product::half_steps(width);
        Inner {
            operand: TileRows::new(&mut self.operand, rows, steps),
            halves: Rows::new(&mut self.halves, rows, padded(width)),
            scales: Rows::new(&mut self.scales, rows, scales_a_row(width)),
        }
    }
}

/// A scale and a shift for each part.
fn scales_a_row(width: usize) -> usize {
    2 * width.div_ceil(PART)
}

/// The inner width of some rows, or a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inner<'a> {
    /// What the last product reads.
    operand: TileRows<'a>,
    /// What becomes bytes, in bf16.
    halves: Rows<'a, u16>,
    scales: Rows<'a, f32>,
}

impl<'a> Inner<'a> {
    /// The same memory, its first tile of rows numbered `origin`.
    pub(super) fn starting_at(self, origin: usize) -> Self {
        Self {
            operand: self.operand.starting_at(origin),
            halves: self.halves.starting_at(origin * TILE),
            scales: self.scales.starting_at(origin * TILE),
        }
    }

    /// Of the whole width, one part.
    pub(super) fn of(self, part: &Part, operand: Operand) -> Self {
        Self {
            operand: self.operand.skipping_steps(part.steps(operand).start),
            halves: self.halves.skipping_columns(part.columns.start),
            scales: self.scales.skipping_columns(2 * part.index),
        }
    }

    /// Where the first product's results go, for a last one of these operands.
    pub(super) fn halves_for(self, operand: Operand) -> Halves<'a> {
        match operand {
            Operand::Halves => Halves::Tiles(self.operand),
            Operand::Bytes => Halves::Rows(self.halves),
        }
    }

    pub(super) fn operand(self) -> TileRows<'a> {
        self.operand
    }

    pub(super) fn scales(self) -> Rows<'a, f32> {
        self.scales
    }

    /// Turns `part`, whose memory this is, from bf16 into bytes.
    ///
    /// # Safety
    ///
    /// The CPU is [`Level::Amx`](crate::kernels::isa::Level); nobody else uses these rows meanwhile.
    pub(super) unsafe fn to_bytes(self, part: &Part, rows: Range<usize>) {
        let from = Source::Halves(self.halves);
        // SAFETY: the caller's.
        unsafe { pack::to_bytes(from, rows, part.columns.len(), self.operand, self.scales) };
    }
}
