//! Rows of activations to the operand of a product: rounded to bf16, or to bytes that span each row's
//! own range (as `linear::quantize` does it).

use std::arch::x86_64::*;
use std::ops::Range;

use super::{HALVES, TileRows};
use crate::kernels::rows::Rows;

/// Numbers of a vector, and 16-bit ones.
const LANES: usize = 16;

/// What rows are packed from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// `f32`.
    Floats(Rows<'a, f32>),
    /// bf16.
    Halves(Rows<'a, u16>),
}

/// Rounds rows of `features` numbers (a multiple of 32) to bf16 in tiles.
///
/// # Safety
///
/// The CPU is [`Level::Amx`](crate::kernels::isa::Level); nobody else uses these rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn to_bf16(
    from: Rows<'_, f32>,
    rows: Range<usize>,
    features: usize,
    to: TileRows<'_>,
) {
    for row in rows {
        for step in 0..features / HALVES {
            // SAFETY: the caller's rows; a step is 32 columns.
            unsafe {
                let from = from.at(row, step * HALVES).cast_const();
                let pair = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES))];
                store_pair(to.at(row, step), pair);
            }
        }
    }
}

/// Rounds rows of `features` numbers (a multiple of 32) to bf16 in rows.
///
/// # Safety
///
/// As [`to_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn to_bf16_rows(
    from: Rows<'_, f32>,
    rows: Range<usize>,
    features: usize,
    to: Rows<'_, u16>,
) {
    for row in rows {
        for column in (0..features).step_by(HALVES) {
            // SAFETY: the caller's rows.
            unsafe {
                let from = from.at(row, column).cast_const();
                let pair = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES))];
                store_pair(to.at(row, column).cast(), pair);
            }
        }
    }
}

/// 32 numbers as bf16.
///
/// # Safety
///
/// `to` is valid for 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn store_pair(to: *mut u8, [low, high]: [__m512; 2]) {
    // SAFETY: the caller's; both types are 64 bytes of plain numbers.
    unsafe {
        let halves = _mm512_cvtne2ps_pbh(high, low);
        _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(halves));
    }
}

/// Rows of `features` numbers (a multiple of 32) to unsigned bytes in tiles; the scale and shift of
/// each go to `scales`.
///
/// # Safety
///
/// As [`to_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(crate) unsafe fn to_bytes(
    from: Source<'_>,
    rows: Range<usize>,
    features: usize,
    to: TileRows<'_>,
    scales: Rows<'_, f32>,
) {
    for row in rows {
        // SAFETY: the caller's rows; whole vectors, since features are a multiple of 32.
        unsafe {
            match from {
                Source::Floats(rows) => {
                    let from = rows.at(row, 0).cast_const();
                    let load = |column| _mm512_loadu_ps(from.add(column));
                    row_to_bytes(load, row, features, to, scales);
                }
                Source::Halves(rows) => {
                    let from = rows.at(row, 0).cast_const();
                    let load = |column| {
                        let halves = _mm256_loadu_si256(from.add(column).cast());
                        let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
                        _mm512_castsi512_ps(wide)
                    };
                    row_to_bytes(load, row, features, to, scales);
                }
            }
        }
    }
}

/// # Safety
///
/// As [`to_bytes`]; `load` gives the 16 columns from its argument.
#[inline(always)]
unsafe fn row_to_bytes(
    load: impl Fn(usize) -> __m512,
    row: usize,
    features: usize,
    to: TileRows<'_>,
    scales: Rows<'_, f32>,
) {
    // SAFETY: the caller's.
    unsafe {
        // Two chains each, since one would wait for each comparison.
        let mut smallest = [load(0), load(LANES)];
        let mut largest = smallest;
        for column in (HALVES..features).step_by(HALVES) {
            for half in 0..2 {
                let value = load(column + half * LANES);
                smallest[half] = _mm512_min_ps(smallest[half], value);
                largest[half] = _mm512_max_ps(largest[half], value);
            }
        }
        let smallest = _mm512_reduce_min_ps(_mm512_min_ps(smallest[0], smallest[1]));
        let largest = _mm512_reduce_max_ps(_mm512_max_ps(largest[0], largest[1]));
        let span = largest - smallest;
        let factor = if span > 0.0 { 255.0 / span } else { 0.0 };
        let scale = span / 255.0;
        scales.at(row, 0).write(scale);
        scales.at(row, 1).write(smallest + 128.0 * scale);
        let (factor, least) = (_mm512_set1_ps(factor), _mm512_set1_ps(smallest));
        for column in (0..features).step_by(LANES) {
            let above = _mm512_sub_ps(load(column), least);
            let bytes = _mm512_cvtps_epi32(_mm512_mul_ps(above, factor));
            let to = to.at(row, column / 64).add(column % 64);
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(bytes));
        }
    }
}
