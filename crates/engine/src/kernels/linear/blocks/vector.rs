//! A few rows by blocks: integer dot products of two-byte activations.

use std::ops::Range;

use super::layout::Layout;
use super::{BLOCK, FACTS, Piece, WORDS, by_layout};
use crate::kernels::rows::{PANEL, Rows};
use crate::kernels::simd::Simd;

/// Words of a block of activations: the coarse bytes, then the fine ones.
const INPUT_WORDS: usize = 2 * WORDS;

/// Fine steps of a coarse one, and the bits of that.
const FINE: f32 = 256.0;
const FINE_BITS: u32 = 8;

/// Vectors of outputs that are computed at a time: with all of a panel, it is read from end to end,
/// as memory likes it.
const VECTORS: usize = 4;

/// Bytes that are asked for before they are needed: about what memory delivers in its latency.
const AHEAD: usize = 4096;

/// `x ≈ scale · (256 · coarse + fine)` in each block of 32, with [`FACTS`].
///
/// # Safety
///
/// `from` is valid for `inputs` numbers, `to` for twice as many bytes, `facts` for [`FACTS`] numbers
/// a block; the CPU has `S`.
#[inline(always)]
pub(in super::super) unsafe fn quantize<S: Simd>(
    from: *const f32,
    inputs: usize,
    to: *mut i8,
    facts: *mut f32,
) {
    /// 1.5 · 2²³: added and taken away again, it rounds what is smaller to the nearest integer.
    const ROUNDER: f32 = 12_582_912.0;
    for block in 0..inputs / BLOCK {
        // SAFETY: the caller's.
        unsafe {
            let (from, to) = (from.add(block * BLOCK), to.add(2 * block * BLOCK));
            let mut largest = S::splat(0.0);
            for at in (0..BLOCK).step_by(S::LANES) {
                let value = S::load(from.add(at));
                largest = S::max(largest, S::max(value, S::sub(S::splat(0.0), value)));
            }
            let largest = S::maximum(largest);
            let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let mut sums = [S::splat(0.0); 2];
            for at in (0..BLOCK).step_by(S::LANES) {
                let value = S::mul(S::load(from.add(at)), S::splat(factor));
                let coarse = S::sub(S::add(value, S::splat(ROUNDER)), S::splat(ROUNDER));
                let fine = S::mul(S::sub(value, coarse), S::splat(FINE));
                let fine = S::max(S::min(fine, S::splat(127.0)), S::splat(-127.0));
                let fine = S::sub(S::add(fine, S::splat(ROUNDER)), S::splat(ROUNDER));
                S::store_i8(to.add(at), coarse, 0);
                S::store_i8(to.add(BLOCK + at), fine, 0);
                // Integers up to 32 · 127 · 256, which every order of summation has exactly.
                let sum = &mut sums[at / (BLOCK / 2)];
                *sum = S::add(*sum, S::fma(coarse, S::splat(FINE), fine));
            }
            let scale = largest / (127.0 * FINE);
            let (low, high) = (S::sum(sums[0]), S::sum(sums[1]));
            let facts = facts.add(FACTS * block).cast::<[f32; FACTS]>();
            facts.write([scale, scale * (low + high), scale * low, scale * high]);
        }
    }
}

/// What [`Piece::multiply`] reads and writes besides the weights.
#[derive(Clone, Copy)]
pub(in super::super) struct Job<'a> {
    /// Bytes of activations by row, [`INPUT_WORDS`] words and [`FACTS`] a block.
    pub(in super::super) words: Rows<'a, f32>,
    pub(in super::super) facts: Rows<'a, f32>,
    pub(in super::super) blocks: usize,
    /// Padded to whole panels.
    pub(in super::super) bias: &'a [f32],
    pub(in super::super) out: Rows<'a, f32>,
}

impl Piece {
    /// Writes those of `panels` that are this piece's, for the given rows.
    ///
    /// # Safety
    ///
    /// As [`crate::kernels::linear::Linear::multiply`].
    #[inline(always)]
    pub(in super::super) unsafe fn multiply<S: Simd>(
        &self,
        job: Job<'_>,
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        let start = panels.start.max(self.panels.start);
        let end = panels.end.min(self.panels.end);
        // SAFETY: the caller's.
        unsafe {
            by_layout!(self.stored, L, HALVES => self.all::<S, L, HALVES>(job, rows, start..end));
        }
    }

    /// # Safety
    ///
    /// As [`Piece::multiply`]; the layout is this piece's.
    #[inline(always)]
    unsafe fn all<S: Simd, L: Layout, const HALVES: bool>(
        &self,
        job: Job<'_>,
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        for panel in panels {
            let mut row = rows.start;
            while row < rows.end {
                // SAFETY: the caller's.
                row += unsafe {
                    match rows.end - row {
                        6.. if S::ROWS >= 12 => self.tile::<S, L, HALVES, 6>(job, row, panel),
                        4.. if S::ROWS >= 12 => self.tile::<S, L, HALVES, 4>(job, row, panel),
                        2.. => self.tile::<S, L, HALVES, 2>(job, row, panel),
                        _ => self.tile::<S, L, HALVES, 1>(job, row, panel),
                    }
                };
            }
        }
    }

    /// A few rows by one panel. What becomes of a row does not depend on the others.
    ///
    /// # Safety
    ///
    /// As [`Piece::all`].
    #[inline(always)]
    unsafe fn tile<S: Simd, L: Layout, const HALVES: bool, const ROWS: usize>(
        &self,
        job: Job<'_>,
        row: usize,
        panel: usize,
    ) -> usize {
        let (block_bytes, weight_bytes) = (self.stored.block_bytes(), self.stored.weight_bytes());
        let groups = if HALVES { 2 } else { 1 };
        let first = (panel - self.panels.start) * job.blocks * block_bytes;
        for column in (0..PANEL).step_by(VECTORS * S::LANES) {
            let vectors = VECTORS.min((PANEL - column) / S::LANES);
            // SAFETY: panels of this piece, rows of the caller.
            unsafe {
                let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
                for block in 0..job.blocks {
                    let base = self.bytes.as_ptr().add(first + block * block_bytes);
                    if column == 0 {
                        for line in (0..block_bytes).step_by(64) {
                            S::prefetch(base.wrapping_add(AHEAD + line).cast());
                        }
                    }
                    let facts = base.add(weight_bytes).cast::<u16>();
                    for vector in 0..vectors {
                        let column = column + vector * S::LANES;
                        let weights = L::words::<S>(base, column);
                        let fact = |kind: usize| S::load_f16(facts.add(kind * PANEL + column));
                        for (offset, sums) in sums.iter_mut().enumerate() {
                            let words = job.words.at(row + offset, block * INPUT_WORDS);
                            let words = words.cast_const().cast::<i32>();
                            let own = job.facts.at(row + offset, FACTS * block);
                            let own = own.cast::<[f32; FACTS]>().read();
                            let mut sum = sums[vector];
                            for group in 0..groups {
                                let part = if HALVES {
                                    group * (WORDS / 2)..(group + 1) * (WORDS / 2)
                                } else {
                                    0..WORDS
                                };
                                let scale = fact(group);
                                let minimum = match self.factor {
                                    Some(factor) => S::mul(scale, S::splat(factor)),
                                    None => fact(groups + group),
                                };
                                let dot = dot::<S, L>(&weights, words, part);
                                let factor = S::mul(scale, S::splat(own[0]));
                                sum = S::fma(S::to_f32(dot), factor, sum);
                                let shift = own[if HALVES { 2 + group } else { 1 }];
                                sum = S::fma(minimum, S::splat(shift), sum);
                            }
                            sums[vector] = sum;
                        }
                    }
                }
                for (offset, sums) in sums.iter().enumerate() {
                    for (vector, sum) in sums[..vectors].iter().enumerate() {
                        let column = panel * PANEL + column + vector * S::LANES;
                        let bias = S::load(job.bias.as_ptr().add(column));
                        S::store(job.out.at(row + offset, column), S::add(*sum, bias));
                    }
                }
            }
        }
        ROWS
    }
}

/// `Σ weight · (256 · coarse + fine)` over some words of a block: at most 32 · 255 · 127 · 257.
///
/// # Safety
///
/// `input` is valid for a block's words; the CPU has `S`.
#[inline(always)]
unsafe fn dot<S: Simd, L: Layout>(
    weights: &[S::I; WORDS],
    input: *const i32,
    part: Range<usize>,
) -> S::I {
    // SAFETY: the caller's.
    unsafe {
        if let Some(most) = L::MOST
            && !S::UNSIGNED_ACTIVATIONS
        {
            let (weights, input) = (&weights[part.clone()], input.add(part.start));
            let coarse = S::dot_small(weights, input, most);
            let fine = S::dot_small(weights, input.add(WORDS), most);
            return S::add_i(S::shift_left(coarse, FINE_BITS), fine);
        }
        // Two chains, since each product would wait for the one before it.
        let (mut coarse, mut fine) = (S::zero_i(), S::zero_i());
        for word in part {
            coarse = S::dot_i8(coarse, weights[word], S::splat_i(input.add(word).read()));
            let low = S::splat_i(input.add(WORDS + word).read());
            fine = S::dot_i8(fine, weights[word], low);
        }
        S::add_i(S::shift_left(coarse, FINE_BITS), fine)
    }
}
