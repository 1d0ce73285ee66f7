//! Scores made into weights, with a running maximum and sum for each of 32 queries.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{PANEL, QUERIES};
use crate::kernels::amx::{PANEL_ROW, TILE};
use crate::kernels::attention::MASKED;

/// Vectors of 16 queries.
const VECTORS: usize = QUERIES / 16;

/// Running maxima and sums of the weights of a task's queries.
#[derive(Clone, Copy)]
pub(super) struct Running {
    maxima: [__m512; VECTORS],
    pub(super) sums: [__m512; VECTORS],
}

impl Running {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn start() -> Self {
        Self {
            maxima: [_mm512_set1_ps(MASKED); VECTORS],
            sums: [_mm512_setzero_ps(); VECTORS],
        }
    }
}

/// Which keys the queries of a task see.
pub(super) struct Seen {
    starts: [__m512i; VECTORS],
    ends: [__m512i; VECTORS],
    /// Seen by all.
    all: Range<usize>,
    /// Vectors that have a query.
    vectors: usize,
}

impl Seen {
    /// What `queries` see; queries beyond them see what the last one does.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(queries: Range<usize>, of: impl Fn(usize) -> Range<usize>) -> Self {
        let mut all = of(queries.start);
        let mut bounds = [[0_i32; QUERIES]; 2];
        let [starts, ends] = &mut bounds;
        for (lane, (start, end)) in starts.iter_mut().zip(ends).enumerate() {
            let seen = of((queries.start + lane).min(queries.end - 1));
            (*start, *end) = (seen.start as i32, seen.end as i32);
            all = all.start.max(seen.start)..all.end.min(seen.end);
        }
        // SAFETY: each vector is 16 of the 32 numbers.
        let [starts, ends] = bounds.map(|bounds| unsafe {
            std::array::from_fn(|vector| {
                _mm512_loadu_si512(bounds.as_ptr().add(vector * 16).cast())
            })
        });
        Self {
            starts,
            ends,
            all,
            vectors: queries.len().div_ceil(16),
        }
    }

    /// The lanes of `vector` that see `key`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn lanes(&self, vector: usize, key: usize) -> __mmask16 {
        let key = _mm512_set1_epi32(key as i32);
        _mm512_cmple_epi32_mask(self.starts[vector], key)
            & _mm512_cmpgt_epi32_mask(self.ends[vector], key)
    }
}

/// A block of scores and where its weights go.
pub(super) struct Softmax {
    /// What scores are multiplied with.
    pub(super) factor: f32,
    pub(super) keys: Range<usize>,
    /// `[keys, QUERIES]`.
    pub(super) scores: *const f32,
    /// A panel, 32 keys a step.
    pub(super) weights: *mut u8,
}

impl Softmax {
    /// Turns scores into weights relative to the new running maxima, rounded to bf16:
    /// `2^(factor · (score − maximum))`. `output`, its pointer and rows, are what earlier blocks gave: they are
    /// made relative to the new maxima too.
    ///
    /// # Safety
    ///
    /// The CPU is [`Level::Amx`](crate::kernels::isa::Level); the pointers are those of a task's
    /// scratch memory.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn soften(
        &self,
        running: &mut Running,
        seen: &Seen,
        output: Option<(*mut f32, usize)>,
    ) {
        for vector in 0..seen.vectors {
            // SAFETY: the caller's.
            unsafe {
                let maximum = self.maximum(running.maxima[vector], seen, vector);
                let scale = _mm512_set1_ps(self.factor);
                let fallen = _mm512_sub_ps(running.maxima[vector], maximum);
                let correction = power_of_two(_mm512_mul_ps(fallen, scale));
                let sum = self.weigh(maximum, seen, vector);
                running.sums[vector] = _mm512_fmadd_ps(running.sums[vector], correction, sum);
                let risen = _mm512_cmplt_ps_mask(running.maxima[vector], maximum) != 0;
                running.maxima[vector] = maximum;
                if let (true, Some((output, rows))) = (risen, output) {
                    for row in 0..rows {
                        let at = output.add(row * QUERIES + vector * 16);
                        _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), correction));
                    }
                }
            }
        }
    }

    /// The keys of the block that all queries see, by their rows.
    fn whole(&self, seen: &Seen) -> Range<usize> {
        let row = |key: usize| key.clamp(self.keys.start, self.keys.end) - self.keys.start;
        // Whole pairs of rows.
        let whole = row(seen.all.start).next_multiple_of(2)..row(seen.all.end) / 2 * 2;
        if whole.is_empty() { 0..0 } else { whole }
    }

    /// 16 scores of a key, those of queries that do not see it masked.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn masked(&self, row: usize, seen: &Seen, vector: usize) -> __m512 {
        // SAFETY: scores are there for whole tiles of keys; those beyond the length are seen by none.
        unsafe {
            let scores = _mm512_loadu_ps(self.scores.add(row * QUERIES + vector * 16));
            let lanes = seen.lanes(vector, self.keys.start + row);
            _mm512_mask_mov_ps(_mm512_set1_ps(MASKED), lanes, scores)
        }
    }

    /// The larger of `before` and the block's scores.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn maximum(&self, before: __m512, seen: &Seen, vector: usize) -> __m512 {
        let whole = self.whole(seen);
        let mut maxima = [before; 4];
        // SAFETY: as for `soften`.
        unsafe {
            let at = self.scores.add(vector * 16);
            let mut row = whole.start;
            while row + 4 <= whole.end {
                for (i, maximum) in maxima.iter_mut().enumerate() {
                    let scores = _mm512_loadu_ps(at.add((row + i) * QUERIES));
                    *maximum = _mm512_max_ps(*maximum, scores);
                }
                row += 4;
            }
            for row in (0..whole.start).chain(row..self.keys.len()) {
                let scores = self.masked(row, seen, vector);
                maxima[0] = _mm512_max_ps(maxima[0], scores);
            }
        }
        let [a, b, c, d] = maxima;
        _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d))
    }

    /// Writes the weights of one vector of queries; returns their sums.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn weigh(&self, maximum: __m512, seen: &Seen, vector: usize) -> __m512 {
        let scale = _mm512_set1_ps(self.factor);
        let shift = _mm512_mul_ps(maximum, _mm512_set1_ps(-self.factor));
        let weight = |scores| power_of_two(_mm512_fmadd_ps(scores, scale, shift));
        let whole = self.whole(seen);
        let mut sums = [_mm512_setzero_ps(); 2];
        // SAFETY: as for `soften`.
        unsafe {
            let scores = self.scores.add(vector * 16);
            let weights = self.weights.add(vector * 64);
            for row in whole.clone().step_by(2) {
                let even = weight(_mm512_loadu_ps(scores.add(row * QUERIES)));
                let odd = weight(_mm512_loadu_ps(scores.add((row + 1) * QUERIES)));
                sums = [_mm512_add_ps(sums[0], even), _mm512_add_ps(sums[1], odd)];
                store_side_by_side(weights.add(row / 2 * PANEL_ROW), [even, odd]);
            }
            let scored = self.keys.len().next_multiple_of(TILE);
            for row in (0..whole.start).chain(whole.end..scored).step_by(2) {
                let even = weight(self.masked(row, seen, vector));
                let odd = weight(self.masked(row + 1, seen, vector));
                sums = [_mm512_add_ps(sums[0], even), _mm512_add_ps(sums[1], odd)];
                store_side_by_side(weights.add(row / 2 * PANEL_ROW), [even, odd]);
            }
            for row in (scored..scored.next_multiple_of(PANEL)).step_by(2) {
                _mm512_storeu_si512(
                    weights.add(row / 2 * PANEL_ROW).cast(),
                    _mm512_setzero_si512(),
                );
            }
        }
        _mm512_add_ps(sums[0], sums[1])
    }
}

/// The weights of two keys as bf16, those of a query side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn store_side_by_side(to: *mut u8, [even, odd]: [__m512; 2]) {
    /// Number `i / 2` of the lower half, and of the upper one.
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: `to` has 64 bytes; both types are 64 bytes of plain numbers.
    unsafe {
        let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, halves));
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
