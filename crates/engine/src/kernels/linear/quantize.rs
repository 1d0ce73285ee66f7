//! Rows of activations to integers, each row with a scale of its own.

use std::ops::Range;

use super::Format;
use crate::kernels::rows::Rows;
use crate::kernels::simd::{Kernel, Simd};

/// `words[row] = round(from[row] · limit / max|from[row]|)`, and the inverse factor as the scale.
pub(super) struct Quantize<'a> {
    pub(super) from: Rows<'a, f32>,
    pub(super) rows: Range<usize>,
    pub(super) features: usize,
    pub(super) limit: f32,
    pub(super) format: Format,
    pub(super) words: Rows<'a, f32>,
    pub(super) scales: Rows<'a, f32>,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Rows are padded with zeros to whole panels, so whole vectors may be read.
        let vectors = self.features.div_ceil(S::LANES);
        let offset = if S::UNSIGNED_ACTIVATIONS { 128 } else { 0 };
        for row in self.rows.clone() {
            // SAFETY: the rows are the caller's alone, and padded; see `Linear::prepare`.
            unsafe {
                let from = self.from.at(row, 0).cast_const();
                let largest = largest::<S>(from, vectors);
                let factor = if largest > 0.0 {
                    self.limit / largest
                } else {
                    0.0
                };
                self.scales.at(row, 0).write(largest / self.limit);
                let factor = S::splat(factor);
                let to = self.words.at(row, 0);
                for vector in 0..vectors {
                    let value = S::mul(S::load(from.add(vector * S::LANES)), factor);
                    match self.format {
                        Format::I8 => {
                            S::store_i8(to.cast::<i8>().add(vector * S::LANES), value, offset);
                        }
                        _ => S::store_i16(to.cast::<i16>().add(vector * S::LANES), value),
                    }
                }
            }
        }
    }
}

/// The largest magnitude.
///
/// # Safety
///
/// `from` is valid for `vectors · LANES` elements.
#[inline(always)]
unsafe fn largest<S: Simd>(from: *const f32, vectors: usize) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        // Two chains, since one would wait for each maximum.
        let mut sums = [S::splat(0.0); 2];
        for vector in 0..vectors {
            let value = S::abs(S::load(from.add(vector * S::LANES)));
            sums[vector % 2] = S::max(sums[vector % 2], value);
        }
        S::maximum(S::max(sums[0], sums[1]))
    }
}
