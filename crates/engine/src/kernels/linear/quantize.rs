//! Rows of activations to integers, each row with a scale of its own, or to bf16.

use std::ops::Range;

use super::tile::TILE_WORDS;
use super::{Format, blocks};
use crate::kernels::rows::Rows;
use crate::kernels::simd::{Kernel, Simd};

/// Integers that stand for the activations: `from[row] ≈ scale · words[row] + shift`.
pub(super) struct Quantize<'a> {
    pub(super) from: Rows<'a, f32>,
    pub(super) rows: Range<usize>,
    pub(super) features: usize,
    /// The largest magnitude of 16-bit integers.
    pub(super) limit: f32,
    pub(super) format: Format,
    pub(super) words: Rows<'a, f32>,
    /// Scale and shift of each row.
    pub(super) scales: Rows<'a, f32>,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.rows.clone() {
            // SAFETY: the rows are the caller's alone, and padded; see `Linear::prepare`.
            unsafe {
                if self.format == Format::Blocks {
                    let from = self.from.at(row, 0).cast_const();
                    let to = self.words.at(row, 0).cast::<i8>();
                    blocks::quantize::<S>(from, self.features, to, self.scales.at(row, 0));
                    continue;
                }
                let [scale, shift] = match self.format {
                    Format::I8 => self.bytes::<S>(row),
                    _ => self.halves::<S>(row),
                };
                self.scales.at(row, 0).write(scale);
                self.scales.at(row, 1).write(shift);
            }
        }
    }
}

impl Quantize<'_> {
    /// Bytes that span the row's own range: outputs of GELU, say, are hardly ever negative.
    ///
    /// # Safety
    ///
    /// As [`super::Linear::prepare`].
    #[inline(always)]
    unsafe fn bytes<S: Simd>(&self, row: usize) -> [f32; 2] {
        // Rows are padded with zeros to whole panels, so whole vectors may be read.
        let vectors = self.features.div_ceil(S::LANES);
        // SAFETY: the caller's.
        unsafe {
            let from = self.from.at(row, 0).cast_const();
            let [smallest, largest] = range::<S>(from, vectors);
            let span = largest - smallest;
            let factor = if span > 0.0 { 255.0 / span } else { 0.0 };
            let scale = span / 255.0;
            let (factor, least) = (S::splat(factor), S::splat(smallest));
            // Signed bytes lie 128 lower; the sums are those of signed bytes either way.
            let offset = if S::UNSIGNED_ACTIVATIONS { 0 } else { -128 };
            let to = self.words.at(row, 0).cast::<i8>();
            for vector in 0..vectors {
                // Two roundings on every instruction set, so that all store the same bytes; the
                // product is at most 255 · (1 + 2⁻²²).
                let above = S::sub(S::load(from.add(vector * S::LANES)), least);
                let value = S::mul(above, factor);
                S::store_i8(to.add(vector * S::LANES), value, offset);
            }
            [scale, smallest + 128.0 * scale]
        }
    }

    /// 16-bit integers up to `limit` either side of zero.
    ///
    /// # Safety
    ///
    /// As [`super::Linear::prepare`].
    #[inline(always)]
    unsafe fn halves<S: Simd>(&self, row: usize) -> [f32; 2] {
        let vectors = self.features.div_ceil(S::LANES);
        // SAFETY: the caller's.
        unsafe {
            let from = self.from.at(row, 0).cast_const();
            let [smallest, largest] = range::<S>(from, vectors);
            let largest = largest.max(-smallest);
            let factor = if largest > 0.0 {
                self.limit / largest
            } else {
                0.0
            };
            let factor = S::splat(factor);
            let to = self.words.at(row, 0).cast::<i16>();
            for vector in 0..vectors {
                let at = vector * S::LANES;
                S::store_i16(to.add(at), S::mul(S::load(from.add(at)), factor));
            }
            [largest / self.limit, 0.0]
        }
    }
}

/// `words[row] = bf16(from[row])`, zeros up to the end of the last tile.
pub(super) struct Round<'a> {
    pub(super) from: Rows<'a, f32>,
    pub(super) rows: Range<usize>,
    pub(super) features: usize,
    pub(super) words: Rows<'a, f32>,
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let length = self.features.next_multiple_of(2 * TILE_WORDS);
        for row in self.rows.clone() {
            // SAFETY: the rows are the caller's alone; a row of words has room for `length` numbers
            // of 32 bits, since whole tiles are no more than whole panels.
            let (from, to) = unsafe {
                let from = self.from.at(row, 0).cast_const();
                let to = self.words.at(row, 0).cast::<u16>();
                (
                    std::slice::from_raw_parts(from, self.features),
                    std::slice::from_raw_parts_mut(to, length),
                )
            };
            let (to, padding) = to.split_at_mut(self.features);
            for (to, from) in to.iter_mut().zip(from) {
                *to = to_bf16(*from);
            }
            // What lay there might read as NaN, which even a weight of zero does not silence.
            padding.fill(0);
        }
    }
}

/// The upper half of `value`, rounded to nearest, ties to even; without branches, for vectors.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    // A NaN could be rounded into infinity or past the sign, so it is made quiet instead.
    let chosen = if value.is_nan() {
        bits | 0x40_0000
    } else {
        rounded
    };
    (chosen >> 16) as u16
}

/// The smallest and the largest value.
///
/// # Safety
///
/// `from` is valid for `vectors · LANES` elements.
#[inline(always)]
unsafe fn range<S: Simd>(from: *const f32, vectors: usize) -> [f32; 2] {
    // SAFETY: the caller's.
    unsafe {
        let first = S::load(from);
        // Two chains each, since one would wait for each comparison.
        let (mut smallest, mut largest) = ([first; 2], [first; 2]);
        for vector in 1..vectors {
            let value = S::load(from.add(vector * S::LANES));
            let chain = vector % 2;
            smallest[chain] = S::min(smallest[chain], value);
            largest[chain] = S::max(largest[chain], value);
        }
        let smallest = S::min(smallest[0], smallest[1]);
        let negated = S::sub(S::splat(0.0), smallest);
        [
            -S::maximum(negated),
            S::maximum(S::max(largest[0], largest[1])),
        ]
    }
}
