//! A row of scores made into weights, with a running maximum and sum.

use std::arch::x86_64::*;
use std::ops::Range;

use super::SUMS;
use crate::kernels::attention::MASKED;
use crate::kernels::rows::PANEL;
use crate::kernels::tiled::{TILE_BYTES, pack::store_pair};

/// Running maximum and sum of a row's weights.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) maximum: f32,
    pub(super) sum: f32,
}

/// The 16 scores from `first` on, those outside of `seen` hidden. Hidden in the register: to store
/// single scores before vectors of them are read would hold up the reads.
///
/// # Safety
///
/// `scores` are a row's of the scratch memory.
#[inline(always)]
unsafe fn seen_scores(scores: *const f32, first: usize, seen: &Range<usize>) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let values = _mm512_loadu_ps(scores.add(first / PANEL * SUMS + first % PANEL));
        if seen.start <= first && first + 16 <= seen.end {
            return values;
        }
        let bits = |end: usize| (1_u32 << end.clamp(first, first + 16).wrapping_sub(first)) - 1;
        let mask = bits(seen.end) & !bits(seen.start);
        _mm512_mask_mov_ps(_mm512_set1_ps(MASKED), mask as u16, values)
    }
}

/// Turns a row of scores, `chunks` chunks of 32, into weights relative to the new running maximum,
/// rounded to bf16: `2^(factor · (score − maximum))`. Returns what earlier results are multiplied by.
///
/// # Safety
///
/// The CPU is [`Level::Amx`](crate::kernels::isa::Level); the pointers are a row's of the scratch memory.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn soften(
    running: &mut Running,
    (factor, seen): (f32, Range<usize>),
    chunks: usize,
    scores: *const f32,
    weights: *mut u8,
) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut maxima = [_mm512_set1_ps(running.maximum); 2];
        // Chunks that are seen whole, and those at the borders.
        let whole = seen.start.div_ceil(PANEL)..seen.end / PANEL;
        let borders = || (0..chunks).filter(|chunk| !whole.contains(chunk));
        for chunk in whole.clone() {
            for (half, maximum) in maxima.iter_mut().enumerate() {
                let scores = _mm512_loadu_ps(scores.add(chunk * SUMS + half * 16));
                *maximum = _mm512_max_ps(*maximum, scores);
            }
        }
        for chunk in borders() {
            for (half, maximum) in maxima.iter_mut().enumerate() {
                let scores = seen_scores(scores, chunk * PANEL + half * 16, &seen);
                *maximum = _mm512_max_ps(*maximum, scores);
            }
        }
        let maximum = _mm512_reduce_max_ps(_mm512_max_ps(maxima[0], maxima[1]));
        let (scale, shift) = (_mm512_set1_ps(factor), _mm512_set1_ps(-maximum * factor));
        let mut sums = [_mm512_setzero_ps(); 2];
        for chunk in whole.clone() {
            let mut pair = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let scores = _mm512_loadu_ps(scores.add(chunk * SUMS + half * 16));
                pair[half] = power_of_two(_mm512_fmadd_ps(scores, scale, shift));
                sums[half] = _mm512_add_ps(sums[half], pair[half]);
            }
            store_pair(weights.add(chunk * TILE_BYTES), pair);
        }
        for chunk in borders() {
            let mut pair = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let scores = seen_scores(scores, chunk * PANEL + half * 16, &seen);
                pair[half] = power_of_two(_mm512_fmadd_ps(scores, scale, shift));
                sums[half] = _mm512_add_ps(sums[half], pair[half]);
            }
            store_pair(weights.add(chunk * TILE_BYTES), pair);
        }
        let sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
        let mut correction = 1.0;
        if running.sum > 0.0 {
            correction = ((running.maximum - maximum) * factor).exp2();
        }
        *running = Running {
            maximum,
            sum: running.sum * correction + sum,
        };
        correction
    }
}

/// `2^x` for `x ≤ 0`, relative error 8e-5, far less than the rounding to bf16 that follows.
#[inline]
#[target_feature(enable = "avx512f")]
fn power_of_two(x: __m512) -> __m512 {
    /// Least squares of `2^x` on ±1/2, relative.
    const POLYNOMIAL: [f32; 4] = [0.999_928_9, 0.693_276_3, 0.242_604_35, 0.055_088_725];
    const TO_NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let whole = _mm512_roundscale_ps::<TO_NEAREST>(x);
    let rest = _mm512_sub_ps(x, whole);
    let mut sum = _mm512_set1_ps(POLYNOMIAL[3]);
    for coefficient in [POLYNOMIAL[2], POLYNOMIAL[1], POLYNOMIAL[0]] {
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(sum, whole)
}
