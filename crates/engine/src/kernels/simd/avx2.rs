//! AVX2 and FMA: eight lanes, sixteen registers.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

#[derive(Clone, Copy, Debug)]
struct Avx2;

/// Runs `kernel` with AVX2.
///
/// # Safety
///
/// The CPU has AVX2, FMA and F16C; the kernel's fields are valid.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx2>() }
}

#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is one intrinsic; the trait's contract is its safety"
)]
// SAFETY: used only through `run`, on CPUs with AVX2 and FMA.
unsafe impl Simd for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const UNSIGNED_ACTIVATIONS: bool = false;
    type F = __m256;
    type I = __m256i;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(source: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(source) }
    }
    #[inline(always)]
    unsafe fn store(target: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(target, value) }
    }
    #[inline(always)]
    unsafe fn load_bf16(source: *const u16) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(source.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(source: *const i8) -> __m256 {
        unsafe {
            let bytes = _mm_loadl_epi64(source.cast());
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(source: *const u16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(source.cast())) }
    }
    #[inline(always)]
    unsafe fn nibbles(a: __m256i) -> [__m256i; 2] {
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi32::<4>(a), mask);
            [_mm256_and_si256(a, mask), high]
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
        }
    }
    #[inline(always)]
    unsafe fn maximum(a: __m256) -> f32 {
        unsafe {
            let half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)))
        }
    }
    #[inline(always)]
    unsafe fn scale_by_power(value: __m256, exponent: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
            _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
    #[inline(always)]
    unsafe fn zero_i() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn load_i(source: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(source.cast()) }
    }
    #[inline(always)]
    unsafe fn store_i(target: *mut i32, value: __m256i) {
        unsafe { _mm256_storeu_si256(target.cast(), value) }
    }
    #[inline(always)]
    unsafe fn dot_i8(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // |a| ≤ 128 and |b| ≤ 127, so a pair of products is at most 2·128·127 = 32,512 < 2¹⁵: the
        // saturating byte product is exact.
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn dot_small(a: &[__m256i], b: *const i32, most: i32) -> __m256i {
        // So many products of pairs can be added in 16 bits.
        let fitting = (i32::from(i16::MAX) / (2 * 127 * most)).unsigned_abs() as usize;
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sum = _mm256_setzero_si256();
            for (group, a) in a.chunks(fitting).enumerate() {
                let b = b.add(group * fitting);
                let mut pairs = _mm256_setzero_si256();
                for (word, a) in a.iter().enumerate() {
                    let b = _mm256_set1_epi32(b.add(word).read());
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(*a, b));
                }
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn dot_i16(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }
    #[inline(always)]
    unsafe fn add_i(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn and_i(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn or_i(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_left(a: __m256i, count: u32) -> __m256i {
        unsafe { _mm256_sllv_epi32(a, _mm256_set1_epi32(count.cast_signed())) }
    }
    #[inline(always)]
    unsafe fn shift_right(a: __m256i, count: u32) -> __m256i {
        unsafe { _mm256_srlv_epi32(a, _mm256_set1_epi32(count.cast_signed())) }
    }
    #[inline(always)]
    unsafe fn lookup(table: &[i8; 16], a: __m256i) -> __m256i {
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), a)
        }
    }
    #[inline(always)]
    unsafe fn pair_of_bf16(low: __m256, high: __m256) -> __m256i {
        unsafe {
            let half = _mm256_set1_epi32(0x8000);
            let low = _mm256_add_epi32(_mm256_castps_si256(low), half);
            let high = _mm256_add_epi32(_mm256_castps_si256(high), half);
            let high = _mm256_and_si256(high, _mm256_set1_epi32(-0x1_0000));
            _mm256_or_si256(high, _mm256_srli_epi32::<16>(low))
        }
    }
    #[inline(always)]
    unsafe fn to_f32(a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn store_i8(target: *mut i8, value: __m256, offset: i32) {
        unsafe {
            let wide = _mm256_add_epi32(_mm256_cvtps_epi32(value), _mm256_set1_epi32(offset));
            let low = _mm256_castsi256_si128(wide);
            let halves = _mm_packs_epi32(low, _mm256_extracti128_si256::<1>(wide));
            let bytes = _mm_packs_epi16(halves, halves);
            _mm_storel_epi64(target.cast(), bytes);
        }
    }
    #[inline(always)]
    unsafe fn store_i16(target: *mut i16, value: __m256) {
        unsafe {
            let wide = _mm256_cvtps_epi32(value);
            let low = _mm256_castsi256_si128(wide);
            let halves = _mm_packs_epi32(low, _mm256_extracti128_si256::<1>(wide));
            _mm_storeu_si128(target.cast(), halves);
        }
    }
}
