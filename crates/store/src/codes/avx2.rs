//! AVX2: 32 products of bytes an instruction, whose sums of two are 16 bits wide.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds two neighbours in 16 bits. To widen each of
//! these sums would take as many multiplications again (`vpmaddwd` by ones), so [`NARROW_STEPS`] steps are
//! added first: a query's codes are made so that this cannot overflow (`QueryCodes`). Measured on Zen 3
//! (AVX2 only) that is twice as fast as codes of the full range, by the absolute values of the rows and
//! queries with the rows' signs, and 1.7 times as fast as products in 16 bits from the start.
//!
//! What these codes lose is two to three times what codes of the full range would. Where many rows are
//! about as close as the closest (all texts of a model that looks at everything from one side), that
//! would leave half of them to be scored in f32; so a block that reaches the threshold is read again
//! with the codes of the rest, which leave next to nothing of the query's own error.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_GE_OQ, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_cmp_ps,
    _mm256_cvtepi32_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps,
};

use super::{BLOCK, Bounds, NARROW_STEPS, QueryCodes, Rest, RowCodes, SLACK, STEP};

/// Rows whose sums share a register.
const LANES: usize = 8;

/// Registers of a block's sums.
const HALVES: usize = BLOCK / LANES;

/// [`super::bounds_plain`], for queries whose codes have a rest.
///
/// # Safety
///
/// The CPU has AVX2, the blocks are of one size, and every query has at least one number for each 64
/// bytes of a block, its rest as well.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn bounds<const N: usize, const B: usize>(
    blocks: &[RowCodes<'_>; B],
    queries: [&QueryCodes; N],
    thresholds: [f32; N],
    bounds: &mut [[Bounds; N]; B],
) -> [[u16; N]; B] {
    let codes = queries.map(|query| query.codes.as_slice());
    let mut reached = [[0; N]; B];
    for (index, block) in blocks.iter().enumerate() {
        for half in 0..HALVES {
            // SAFETY: the caller's promise is the same.
            let sums = unsafe { sums(block.codes, half, codes) };
            let (scales, errors) = rows(block, half);
            for (number, query) in queries.iter().enumerate() {
                let sum = _mm256_sub_epi32(sums[number], _mm256_set1_epi32(query.correction));
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(query.scale));
                let score = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
                let off = _mm256_mul_ps(errors, _mm256_set1_ps(query.norm + query.error));
                let off = _mm256_add_ps(off, _mm256_set1_ps(query.slack()));
                let mask = reaches(_mm256_add_ps(score, off), thresholds[number]);
                reached[index][number] |= mask << (half * LANES);
            }
        }
        for (number, query) in queries.iter().enumerate() {
            if let (Some(rest), true) = (&query.rest, reached[index][number] != 0) {
                let (threshold, out) = (thresholds[number], &mut bounds[index][number]);
                // SAFETY: the caller's promise is the same.
                reached[index][number] = unsafe { refined(block, query, rest, threshold, out) };
            }
        }
    }
    reached
}

/// The bounds of one query for one block with its rest, and which of them reach the threshold. Both
/// sums are taken: the first ones of all queries would have to be kept for the few that come here.
///
/// # Safety
///
/// As [`bounds`].
#[target_feature(enable = "avx2")]
unsafe fn refined(
    block: &RowCodes<'_>,
    query: &QueryCodes,
    rest: &Rest,
    threshold: f32,
    out: &mut Bounds,
) -> u16 {
    let mut reached = 0;
    for half in 0..HALVES {
        // SAFETY: the caller's promise is the same.
        let [first, second] = unsafe { sums(block.codes, half, [&query.codes, &rest.codes]) };
        let (scales, errors) = rows(block, half);
        let part = |sum: __m256i, correction: i32, scale: f32| {
            let sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(correction));
            _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale))
        };
        let first = part(first, query.correction, query.scale);
        let second = part(second, rest.correction, rest.scale);
        let score = _mm256_mul_ps(_mm256_add_ps(first, second), scales);
        let off = _mm256_mul_ps(errors, _mm256_set1_ps(query.norm + rest.error));
        let off = _mm256_add_ps(off, _mm256_set1_ps(rest.error + SLACK));
        let upper = _mm256_add_ps(score, off);
        let at = half * LANES;
        // SAFETY: both have room for 16 numbers.
        unsafe {
            _mm256_storeu_ps(out.upper.as_mut_ptr().add(at), upper);
            _mm256_storeu_ps(out.lower.as_mut_ptr().add(at), _mm256_sub_ps(score, off));
        }
        reached |= reaches(upper, threshold) << at;
    }
    reached
}

/// The scales and errors of half a block.
#[target_feature(enable = "avx2")]
#[inline]
fn rows(block: &RowCodes<'_>, half: usize) -> (__m256, __m256) {
    // SAFETY: a block has 16 of each.
    unsafe {
        (
            _mm256_loadu_ps(block.scales.as_ptr().add(half * LANES)),
            _mm256_loadu_ps(block.errors.as_ptr().add(half * LANES)),
        )
    }
}

/// Which of these reach the threshold, one bit each.
#[target_feature(enable = "avx2")]
#[inline]
fn reaches(upper: __m256, threshold: f32) -> u16 {
    let reaches = _mm256_cmp_ps::<_CMP_GE_OQ>(upper, _mm256_set1_ps(threshold));
    _mm256_movemask_ps(reaches) as u16
}

/// [`super::sums_plain`] for half a block: with eight queries, the sums, four steps of the rows and what
/// is being added fill the 16 registers.
///
/// # Safety
///
/// As [`bounds`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn sums<const N: usize>(block: &[u8], half: usize, queries: [&[i32]; N]) -> [__m256i; N] {
    const STEP_BYTES: usize = BLOCK * STEP;
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); N];
    let steps = block.len() / STEP_BYTES;
    let whole = steps - steps % NARROW_STEPS;
    // SAFETY: both halves of each step lie in the block.
    let rows = |step: usize| unsafe {
        let from = block.as_ptr().add(step * STEP_BYTES + half * 4 * LANES);
        _mm256_loadu_si256(from.cast::<__m256i>())
    };
    // SAFETY: every query has a number for each step.
    let query = |number: usize, step: usize| unsafe {
        _mm256_set1_epi32(*queries[number].get_unchecked(step))
    };
    for step in (0..whole).step_by(NARROW_STEPS) {
        let rows: [__m256i; NARROW_STEPS] = std::array::from_fn(
            #[inline(always)]
            |index| rows(step + index),
        );
        for (number, sum) in sums.iter_mut().enumerate() {
            let product =
                |index: usize| _mm256_maddubs_epi16(rows[index], query(number, step + index));
            let low = _mm256_add_epi16(product(0), product(1));
            let high = _mm256_add_epi16(product(2), product(3));
            let wide = _mm256_madd_epi16(_mm256_add_epi16(low, high), ones);
            *sum = _mm256_add_epi32(*sum, wide);
        }
    }
    for step in whole..steps {
        let rows = rows(step);
        for (number, sum) in sums.iter_mut().enumerate() {
            let product = _mm256_maddubs_epi16(rows, query(number, step));
            let wide = _mm256_madd_epi16(product, ones);
            *sum = _mm256_add_epi32(*sum, wide);
        }
    }
    sums
}
