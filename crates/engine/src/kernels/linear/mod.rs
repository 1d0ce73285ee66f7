//! The linear layer: activations times packed weights, plus bias, in four formats.
//!
//! Weights are packed once, at load, into panels of 32 outputs, input by input, so that a tile reads
//! them in one stream. The integer precisions scale each row of activations at run time and each
//! output's weights at load; their sums are exact, so they do not depend on the instruction set.
//! On AMX the 8-bit and bf16 panels are read by tiles (`amx`).

#[cfg(target_arch = "x86_64")]
mod amx;
mod blocks;
mod multiply;
mod pack;
mod quantize;
pub(crate) mod tile;
#[cfg(test)]
pub(super) mod tests;

use std::ops::Range;

use self::multiply::Multiply;
use super::buffer::Buffer;
use super::isa::Isa;
use super::rows::{PANEL, Rows, padded};
use super::simd::run;
use super::team::Team;

pub(crate) use blocks::{BLOCK, Bits, BlockPart, BlockRow, LEVELS, Minimum, Stored};
pub(crate) use pack::WeightSource;
pub(crate) use quantize::to_bf16;

/// The number format of a layer's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// 32-bit floating point.
    F32,
    /// 16-bit integers with a scale for each row: at least 10 significant bits, where bf16 has 8.
    I16,
    /// bf16, on AMX tiles alone.
    Bf16,
    /// 8-bit integers with a scale for each row.
    I8,
    /// Blocks of 4 or 8 bits as the file has them; other weights as `I16`.
    Blocks,
}

/// Packed weights.
#[derive(Debug)]
enum Panels {
    F32(Buffer<f32>),
    I16 {
        weights: Buffer<i16>,
        /// One factor an output.
        scales: Buffer<f32>,
        /// The largest activation such that no sum can leave 32 bits.
        limit: f32,
    },
    /// Pairs of inputs, padded to whole tiles.
    Bf16(Buffer<u16>),
    /// Quadruples of inputs, padded to whole tiles.
    I8 {
        weights: Buffer<i8>,
        scales: Buffer<f32>,
        /// Σ weights of each output, scaled: what a shift of all activations by one adds.
        sums: Buffer<f32>,
        /// −128 · Σ weights of each output: undoes the shift of unsigned activations.
        starts: Buffer<i32>,
        /// The same two of each [`PART`] of the inputs, one part after the other.
        parts: (Buffer<f32>, Buffer<i32>),
    },
    /// Blocks of 32 inputs with scales of their own.
    Blocks(Vec<blocks::Piece>),
}

/// Inputs of a layer that may be multiplied apart from the others, with activations scaled for
/// themselves.
pub(crate) const PART: usize = 384;

/// A linear layer, `[rows, in_features] → [rows, out_features]`.
#[derive(Debug)]
pub(crate) struct Linear {
    in_features: usize,
    out_features: usize,
    panels: Panels,
    /// Padded to whole panels.
    bias: Buffer<f32>,
}

/// Activations in the format of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    words: Rows<'a, f32>,
    /// Scale and shift of each row: an activation is `scale · integer + shift`.
    scales: Rows<'a, f32>,
}

impl Input<'_> {
    /// The same memory, its first row numbered `origin`.
    pub(crate) fn starting_at(self, origin: usize) -> Self {
        Self {
            words: self.words.starting_at(origin),
            scales: self.scales.starting_at(origin),
        }
    }

    /// Word `word` of row `row`.
    fn at(&self, row: usize, word: usize) -> *const u32 {
        self.words.at(row, word).cast_const().cast()
    }

    /// Words from one row to the next.
    fn stride(&self) -> usize {
        self.words.stride()
    }
}

/// Numbers that say how a row of `stride` activations was scaled: some for each of its blocks.
fn facts(stride: usize) -> usize {
    blocks::FACTS * (stride / BLOCK).max(1)
}

/// Memory for the activations of some rows in a layer's format.
#[derive(Debug)]
pub(crate) struct InputScratch {
    words: Buffer<f32>,
    scales: Buffer<f32>,
}

impl InputScratch {
    /// Room for `rows` rows of `features` numbers.
    pub(crate) fn new(rows: usize, features: usize) -> Self {
        let stride = padded(features);
        Self {
            words: Buffer::zeroed(rows * stride),
            scales: Buffer::zeroed(rows * facts(stride)),
        }
    }

    /// As a shared matrix of at most `rows` rows for layers with `features` inputs.
    pub(crate) fn lend(&mut self, rows: usize, features: usize) -> Input<'_> {
        let stride = padded(features);
        self.words.reserve(rows * stride);
        self.scales.reserve(rows * facts(stride));
        Input {
            words: Rows::new(&mut self.words, rows, stride),
            scales: Rows::new(&mut self.scales, rows, facts(stride)),
        }
    }
}

/// Panels that tiles read, the first byte of each format's.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum TilePanels {
    /// bf16.
    Halves(*const u8),
    /// Signed bytes.
    Bytes(*const u8),
}

#[cfg(target_arch = "x86_64")]
impl Linear {
    /// The weights, if they are in a format of tiles.
    pub(crate) fn tile_panels(&self) -> Option<TilePanels> {
        match &self.panels {
            Panels::Bf16(weights) => Some(TilePanels::Halves(weights.as_ptr().cast())),
            Panels::I8 { weights, .. } => Some(TilePanels::Bytes(weights.as_ptr().cast())),
            _ => None,
        }
    }

    /// Of byte panels: −128 · Σ weights of each output, over all inputs or a part of them.
    pub(crate) fn tile_starts(&self, part: Option<usize>) -> &[i32] {
        let width = self.bias.len();
        match (&self.panels, part) {
            (Panels::I8 { starts, .. }, None) => starts,
            (Panels::I8 { parts, .. }, Some(part)) => &parts.1[part * width..][..width],
            _ => &[],
        }
    }

    /// Of byte panels: the scale of each output, and its sum of weights, scaled, over all inputs or a
    /// part of them.
    pub(crate) fn tile_scales(&self, part: Option<usize>) -> (&[f32], &[f32]) {
        let width = self.bias.len();
        match (&self.panels, part) {
            (Panels::I8 { scales, sums, .. }, None) => (scales, sums),
            (Panels::I8 { scales, parts, .. }, Some(part)) => {
                (scales, &parts.0[part * width..][..width])
            }
            _ => (&[], &[]),
        }
    }

    /// The bias, padded to whole panels.
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
    }
}

impl Linear {
    /// Number of outputs.
    pub(crate) fn out_features(&self) -> usize {
        self.out_features
    }

    /// Number of inputs.
    pub(crate) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Panels of outputs, the unit in which the layer is shared out.
    pub(crate) fn num_panels(&self) -> usize {
        self.out_features.div_ceil(PANEL)
    }

    /// The whole layer for `rows` rows on the calling thread: `from` and `to` are padded to whole
    /// panels a row, and columns of `from` beyond the inputs are zero.
    ///
    /// # Panics
    ///
    /// If a slice is too short.
    pub(crate) fn apply(&self, isa: Isa, rows: usize, from: &mut [f32], to: &mut [f32]) {
        let mut scratch = InputScratch::new(rows, self.in_features);
        let from = Rows::new(from, rows, padded(self.in_features));
        let to = Rows::new(to, rows, padded(self.out_features));
        // SAFETY: both matrices are borrowed exclusively, and this is the only thread.
        unsafe {
            let input = self.prepare(isa, from, 0..rows, scratch.lend(rows, self.in_features));
            self.multiply(isa, input, 0..rows, 0..self.num_panels(), to);
        }
    }

    /// The whole layer for `rows` rows on all members of `team`, `(from, to)` as in
    /// [`Linear::apply`].
    pub(crate) fn apply_together(
        &self,
        isa: Isa,
        team: &Team,
        rows: usize,
        (from, to): (Rows<'_, f32>, Rows<'_, f32>),
        scratch: Input<'_>,
    ) {
        // SAFETY: before the team starts, this is the only thread.
        let input = unsafe { self.prepare(isa, from, 0..rows, scratch) };
        team.run(|rank| {
            let share = team.share(rank, self.num_panels(), 1);
            // SAFETY: shares of panels are disjoint columns of `to`.
            unsafe { self.multiply(isa, input, 0..rows, share, to) };
        });
    }

    /// Turns the given rows of `from` into this layer's format. `f32` layers read `from` itself.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows of `from` or of `scratch` meanwhile; columns of `from` beyond the
    /// layer's inputs are zero.
    pub(crate) unsafe fn prepare<'a>(
        &self,
        isa: Isa,
        from: Rows<'a, f32>,
        rows: Range<usize>,
        scratch: Input<'a>,
    ) -> Input<'a> {
        let (limit, format) = match self.panels {
            Panels::F32(_) => {
                return Input {
                    words: from,
                    scales: scratch.scales,
                };
            }
            Panels::Bf16(_) => {
                let round = quantize::Round {
                    from,
                    rows,
                    features: self.in_features,
                    words: scratch.words,
                };
                // SAFETY: as below.
                unsafe { run(isa, round) };
                return scratch;
            }
            Panels::I16 { limit, .. } => (limit, Format::I16),
            Panels::I8 { .. } => (127.0, Format::I8),
            Panels::Blocks(_) => (127.0, Format::Blocks),
        };
        // SAFETY: the caller's; the scratch has the same rows and at least as many bytes a row.
        unsafe {
            run(
                isa,
                quantize::Quantize {
                    from,
                    rows,
                    features: self.in_features,
                    limit,
                    format,
                    words: scratch.words,
                    scales: scratch.scales,
                },
            );
        }
        scratch
    }

    /// True if the rows of a prompt go through [`Linear::prepare_prompt`] and
    /// [`Linear::multiply_prompt`], whole panels for all rows at a time.
    pub(crate) fn unpacks(&self, isa: Isa) -> bool {
        // Products of bytes are as fast on blocks as they are.
        let gains = isa.has_tiles() || !isa.has_fast_8_bit();
        gains && matches!(self.panels, Panels::Blocks(_))
    }

    /// As [`Linear::prepare`], for [`Linear::multiply_prompt`].
    ///
    /// # Safety
    ///
    /// As [`Linear::prepare`].
    pub(crate) unsafe fn prepare_prompt<'a>(
        &self,
        isa: Isa,
        from: Rows<'a, f32>,
        rows: Range<usize>,
        scratch: Input<'a>,
    ) -> Input<'a> {
        if !self.unpacks(isa) {
            // SAFETY: the caller's.
            return unsafe { self.prepare(isa, from, rows, scratch) };
        }
        if !isa.has_tiles() {
            return Input {
                words: from,
                scales: scratch.scales,
            };
        }
        let round = quantize::Round {
            from,
            rows,
            features: self.in_features,
            words: scratch.words,
        };
        // SAFETY: the caller's; the scratch has the same rows and at least as many bytes a row.
        unsafe { run(isa, round) };
        scratch
    }

    /// As [`Linear::multiply`], for many rows at a time: blocks are unpacked once for many of them, to
    /// bf16 where there are tiles, else to `f32`. A row's results do not depend on the others'.
    ///
    /// # Safety
    ///
    /// As [`Linear::multiply`], `input` prepared by [`Linear::prepare_prompt`].
    pub(crate) unsafe fn multiply_prompt(
        &self,
        isa: Isa,
        input: Input<'_>,
        rows: Range<usize>,
        panels: Range<usize>,
        out: Rows<'_, f32>,
    ) {
        let pieces = match &self.panels {
            Panels::Blocks(pieces) if self.unpacks(isa) => pieces,
            // SAFETY: the caller's.
            _ => return unsafe { self.multiply(isa, input, rows, panels, out) },
        };
        let job = self.job(isa, input, rows, panels, out);
        let blocks = self.in_features / BLOCK;
        #[cfg(target_arch = "x86_64")]
        if isa.has_tiles() {
            let job = blocks::tiles::ByTiles {
                pieces,
                words: job.input.words,
                blocks,
                bias: &self.bias,
                rows: job.rows,
                panels: job.panels,
                out: job.out,
            };
            // SAFETY: the job is checked, and the caller's; the CPU has tiles.
            return unsafe { run(isa, job) };
        }
        // SAFETY: the job is checked, and the caller's.
        unsafe {
            run(
                isa,
                blocks::floats::ByFloats {
                    job,
                    pieces,
                    blocks,
                },
            );
        }
    }

    /// Writes the given panels of outputs of the given rows into `out`, columns from
    /// `panel · 32`; the columns that pad the last panel become zero.
    ///
    /// # Safety
    ///
    /// `input` was prepared by this layer for these rows; nobody else uses this part of `out`.
    pub(crate) unsafe fn multiply(
        &self,
        isa: Isa,
        input: Input<'_>,
        rows: Range<usize>,
        panels: Range<usize>,
        out: Rows<'_, f32>,
    ) {
        let job = self.job(isa, input, rows, panels, out);
        #[cfg(target_arch = "x86_64")]
        if isa.has_tiles() && matches!(self.panels, Panels::Bf16(_) | Panels::I8 { .. }) {
            // SAFETY: the job is checked, and the caller's; the CPU has tiles.
            return unsafe { run(isa, amx::ByTiles(job)) };
        }
        // SAFETY: the job is checked, and the caller's.
        unsafe {
            run(isa, job);
        }
    }

    /// Some rows times some panels, which the matrices have.
    ///
    /// # Panics
    ///
    /// If they do not.
    fn job<'a>(
        &'a self,
        isa: Isa,
        input: Input<'a>,
        rows: Range<usize>,
        panels: Range<usize>,
        out: Rows<'a, f32>,
    ) -> Multiply<'a> {
        assert!(panels.end <= self.num_panels() && out.stride() >= self.num_panels() * PANEL);
        assert!(rows.end <= out.end() && rows.end <= input.words.end());
        Multiply {
            layer: self,
            input,
            rows,
            panels,
            out,
            unsigned: isa.unsigned_activations(),
        }
    }
}
