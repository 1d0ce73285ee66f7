//! AVX-512 VNNI: 64 products of bytes an instruction, added to the sums of 16 rows.

use super::{BLOCK, Bounds, QueryCodes, RowCodes, STEP};

/// [`super::bounds_plain`], 64 products an instruction.
///
/// # Safety
///
/// The CPU has AVX-512 F and VNNI, the blocks are of one size, and every query has at least one number
/// for each 64 bytes of a block.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn bounds<const N: usize, const B: usize>(
    blocks: &[RowCodes<'_>; B],
    queries: [&QueryCodes; N],
    thresholds: [f32; N],
    bounds: &mut [[Bounds; N]; B],
) -> [[u16; N]; B] {
    use std::arch::x86_64::{
        _CMP_GE_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_loadu_ps,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_epi32,
        _mm512_sub_ps,
    };
    let codes = blocks.each_ref().map(|block| block.codes);
    // SAFETY: the caller's promise is the same.
    let sums = unsafe { sums(codes, queries.map(|query| query.codes.as_slice())) };
    let mut reached = [[0; N]; B];
    for (index, block) in blocks.iter().enumerate() {
        // SAFETY: a block has 16 scales and 16 errors.
        let (scales, errors) = unsafe {
            (
                _mm512_loadu_ps(block.scales.as_ptr()),
                _mm512_loadu_ps(block.errors.as_ptr()),
            )
        };
        for (number, query) in queries.iter().enumerate() {
            let sum = _mm512_sub_epi32(sums[index][number], _mm512_set1_epi32(query.correction));
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(query.scale));
            let score = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
            let off = _mm512_mul_ps(errors, _mm512_set1_ps(query.norm + query.error));
            let off = _mm512_add_ps(off, _mm512_set1_ps(query.slack()));
            let upper = _mm512_add_ps(score, off);
            let threshold = _mm512_set1_ps(thresholds[number]);
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, threshold);
            reached[index][number] = mask;
            if mask != 0 {
                let out = &mut bounds[index][number];
                // SAFETY: both have room for 16 numbers.
                unsafe {
                    _mm512_storeu_ps(out.upper.as_mut_ptr(), upper);
                    _mm512_storeu_ps(out.lower.as_mut_ptr(), _mm512_sub_ps(score, off));
                }
            }
        }
    }
    reached
}

/// [`super::sums_plain`] for `B` blocks, which share each number of a query.
///
/// # Safety
///
/// As [`bounds`].
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
unsafe fn sums<const N: usize, const B: usize>(
    blocks: [&[u8]; B],
    queries: [&[i32]; N],
) -> [[std::arch::x86_64::__m512i; N]; B] {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    };
    let mut sums = [[_mm512_setzero_si512(); N]; B];
    for step in 0..blocks[0].len() / (BLOCK * STEP) {
        // SAFETY: 64 bytes from `step` · 64 lie in every block, and `step` in every query.
        unsafe {
            let rows: [__m512i; B] = std::array::from_fn(
                #[inline(always)]
                |index| {
                    let from = blocks[index].as_ptr().add(step * BLOCK * STEP);
                    _mm512_loadu_si512(from.cast::<__m512i>())
                },
            );
            for number in 0..N {
                let query = _mm512_set1_epi32(*queries[number].get_unchecked(step));
                for index in 0..B {
                    sums[index][number] =
                        _mm512_dpbusd_epi32(sums[index][number], rows[index], query);
                }
            }
        }
    }
    sums
}
