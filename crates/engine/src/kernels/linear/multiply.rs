//! The product itself: rows times panels, tile by tile, on any instruction set but AMX.

use std::ops::Range;

use super::tile::{self, ByF32, ByI8, ByI16, Factors, Product, for_row_tiles};
use super::{BLOCK, Input, Linear, PANEL, Panels, Rows, blocks};
use crate::kernels::simd::{Kernel, Simd};

/// Of the integer formats, each output's scale, and where rows are shifted, its sum of weights.
type Scales<'a> = Option<(&'a [f32], Option<&'a [f32]>)>;

/// Some rows times some panels of a layer.
pub(super) struct Multiply<'a> {
    pub(super) layer: &'a Linear,
    pub(super) input: Input<'a>,
    pub(super) rows: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) out: Rows<'a, f32>,
    pub(super) unsigned: bool,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let inputs = self.layer.in_features;
        // SAFETY: `Linear::job` checked the ranges; each panel holds PANEL columns of `words`.
        unsafe {
            match &self.layer.panels {
                Panels::F32(weights) => {
                    self.panels_of::<S, ByF32>(weights.as_ptr().cast(), inputs, None, None);
                }
                Panels::I16 {
                    weights, scales, ..
                } => {
                    let words = inputs.div_ceil(2);
                    self.panels_of::<S, ByI16>(
                        weights.as_ptr().cast(),
                        words,
                        Some((scales, None)),
                        None,
                    );
                }
                Panels::Blocks(pieces) => {
                    let job = blocks::Job {
                        words: self.input.words,
                        facts: self.input.scales,
                        blocks: inputs / BLOCK,
                        bias: &self.layer.bias,
                        out: self.out,
                    };
                    for piece in pieces {
                        piece.multiply::<S>(job, self.rows.clone(), self.panels.clone());
                    }
                }
                Panels::Bf16(_) => unreachable!("bf16 without AMX; this is a bug"),
                Panels::I8 {
                    weights,
                    scales,
                    sums,
                    starts,
                    ..
                } => {
                    let words = inputs.div_ceil(4);
                    let starts = self.unsigned.then_some(&**starts);
                    let weights = weights.as_ptr().cast();
                    self.panels_of::<S, ByI8>(weights, words, Some((scales, Some(sums))), starts);
                }
            }
        }
    }
}

/// Words of input that a panel is multiplied with at a time: 16 KiB of weights and a tile's
/// activations then stay in a first-level cache while all rows pass.
const WORDS: usize = 128;

/// Where a tile lies: its first row, its panel, and which of the words of input.
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) panel: usize,
    pub(super) part: Range<usize>,
    pub(super) words: usize,
}

/// Asks for weights that the next panel will need: each tile of rows for its share. Weights stream
/// from the third-level cache, which would otherwise stall the first tile of every panel.
///
/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn prefetch<S: Simd>(from: *const u32, words: usize) {
    /// Words of a cache line.
    const LINE: usize = 16;
    for line in 0..words.div_ceil(LINE) {
        // SAFETY: a prefetch reads nothing.
        unsafe { S::prefetch(from.wrapping_add(line * LINE).cast()) };
    }
}

impl Multiply<'_> {
    /// # Safety
    ///
    /// As [`Linear::multiply`]; `weights` are panels of `words` × PANEL words, and padding.
    #[inline(always)]
    unsafe fn panels_of<S: Simd, P: Product>(
        &self,
        weights: *const u32,
        words: usize,
        scales: Scales<'_>,
        starts: Option<&[i32]>,
    ) {
        let panel_words = words.next_multiple_of(P::UNIT);
        for panel in self.panels.clone() {
            let next = weights.wrapping_add((panel + 1) * panel_words * PANEL);
            let mut word = 0;
            while word < words {
                let part = word..(word + WORDS).min(words);
                for_row_tiles!(S, self.rows.len(), |first, ROWS| {
                    // SAFETY: rows and panels are in range; see `Linear::multiply`.
                    unsafe {
                        let row = self.rows.start + first;
                        let share = part.len() * PANEL / self.rows.len();
                        let from = part.start * PANEL + first * share;
                        prefetch::<S>(next.wrapping_add(from), ROWS * share);
                        let factors = Factors {
                            a: self.input.at(row, part.start),
                            a_stride: self.input.stride(),
                            b: weights.add((panel * panel_words + part.start) * PANEL),
                            b_stride: PANEL,
                            words: part.len(),
                            start: starts.map(|starts| starts.as_ptr().add(panel * PANEL)),
                        };
                        let place = Place {
                            row,
                            panel,
                            part: part.clone(),
                            words,
                        };
                        self.tile::<S, P, ROWS>(&factors, place, scales);
                    }
                });
                word = part.end;
            }
        }
    }

    /// One tile: a few rows, one panel, part of the inputs. Sums that are not complete wait in the
    /// output.
    ///
    /// # Safety
    ///
    /// As [`Linear::multiply`].
    #[inline(always)]
    pub(super) unsafe fn tile<S: Simd, P: Product, const ROWS: usize>(
        &self,
        factors: &Factors,
        place: Place,
        scales: Scales<'_>,
    ) {
        for column in (0..PANEL).step_by(2 * S::LANES) {
            // SAFETY: the caller's.
            unsafe {
                let out = |row, half| {
                    let column = place.panel * PANEL + column + half * S::LANES;
                    self.out.at(place.row + row, column)
                };
                let mut sums = tile::start::<S, P, ROWS>(factors, column);
                if place.part.start > 0 {
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = [P::resume::<S>(out(row, 0)), P::resume::<S>(out(row, 1))];
                    }
                }
                let sums = tile::multiply::<S, P, ROWS>(sums, factors, column);
                if place.part.end == place.words {
                    let column = place.panel * PANEL + column;
                    self.store::<S, P, ROWS>(&sums, place.row, column, scales);
                } else {
                    for (row, sum) in sums.iter().enumerate() {
                        P::keep::<S>(sum[0], out(row, 0));
                        P::keep::<S>(sum[1], out(row, 1));
                    }
                }
            }
        }
    }

    /// Scales the sums, adds the bias and stores them.
    ///
    /// # Safety
    ///
    /// As [`Linear::multiply`].
    #[inline(always)]
    unsafe fn store<S: Simd, P: Product, const ROWS: usize>(
        &self,
        sums: &[[P::Sum<S>; 2]; ROWS],
        row: usize,
        column: usize,
        scales: Scales<'_>,
    ) {
        for half in 0..2 {
            let column = column + half * S::LANES;
            // SAFETY: the caller's; bias and scales are padded to whole panels.
            unsafe {
                let bias = S::load(self.layer.bias.as_ptr().add(column));
                let scale = scales.map(|(scales, _)| S::load(scales.as_ptr().add(column)));
                let total = scales.and_then(|(_, sums)| sums);
                let total = total.map(|sums| S::load(sums.as_ptr().add(column)));
                for (offset, sum) in sums.iter().enumerate() {
                    let value = P::finish::<S>(sum[half]);
                    let facts = self.input.scales.at(row + offset, 0);
                    let mut bias = bias;
                    if let Some(total) = total {
                        bias = S::fma(S::splat(facts.add(1).read()), total, bias);
                    }
                    let value = match scale {
                        Some(scale) => S::fma(value, S::mul(scale, S::splat(facts.read())), bias),
                        None => S::add(value, bias),
                    };
                    S::store(self.out.at(row + offset, column), value);
                }
            }
        }
    }
}
