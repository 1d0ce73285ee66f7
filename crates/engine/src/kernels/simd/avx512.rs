//! AVX-512 (F, BW, DQ, VL), with and without VNNI: sixteen lanes, thirty-two registers.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Runs `kernel` with AVX-512.
///
/// # Safety
///
/// The CPU has AVX-512 F, BW, DQ and VL; the kernel's fields are valid.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx512>() }
}

/// Runs `kernel` with AVX-512 and VNNI.
///
/// # Safety
///
/// As [`run`], and the CPU has AVX512-VNNI.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run_vnni<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Vnni>() }
}

/// The operations that do not depend on VNNI; `$unsigned`, `$dot_i8` and `$dot_i16` are the rest.
macro_rules! avx512 {
    ($name:ident, $unsigned:literal, $dot_i8:expr, $dot_i16:expr) => {
        #[derive(Clone, Copy, Debug)]
        pub(in crate::kernels) struct $name;

        #[expect(
            clippy::undocumented_unsafe_blocks,
            reason = "each block is one intrinsic; the trait's contract is its safety"
        )]
        // SAFETY: used only through `run` and `run_vnni`, on CPUs that have the instructions.
        unsafe impl Simd for $name {
            const LANES: usize = 16;
            const ROWS: usize = 12;
            const UNSIGNED_ACTIVATIONS: bool = $unsigned;
            type F = __m512;
            type I = __m512i;

            #[inline(always)]
            unsafe fn splat(value: f32) -> __m512 {
                unsafe { _mm512_set1_ps(value) }
            }
            #[inline(always)]
            unsafe fn load(source: *const f32) -> __m512 {
                unsafe { _mm512_loadu_ps(source) }
            }
            #[inline(always)]
            unsafe fn store(target: *mut f32, value: __m512) {
                unsafe { _mm512_storeu_ps(target, value) }
            }
            #[inline(always)]
            unsafe fn load_bf16(source: *const u16) -> __m512 {
                unsafe {
                    let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(source.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                }
            }
            #[inline(always)]
            unsafe fn load_i8(source: *const i8) -> __m512 {
                unsafe {
                    let bytes = _mm_loadu_si128(source.cast());
                    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
                }
            }
            #[inline(always)]
            unsafe fn load_f16(source: *const u16) -> __m512 {
                unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(source.cast())) }
            }
            #[inline(always)]
            unsafe fn nibbles(a: __m512i) -> [__m512i; 2] {
                unsafe {
                    let mask = _mm512_set1_epi8(15);
                    let high = _mm512_and_si512(_mm512_srli_epi32::<4>(a), mask);
                    [_mm512_and_si512(a, mask), high]
                }
            }
            #[inline(always)]
            unsafe fn add(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_sub_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn div(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_div_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            unsafe fn max(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_max_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_min_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn sum(a: __m512) -> f32 {
                unsafe { _mm512_reduce_add_ps(a) }
            }
            #[inline(always)]
            unsafe fn maximum(a: __m512) -> f32 {
                unsafe { _mm512_reduce_max_ps(a) }
            }
            #[inline(always)]
            unsafe fn scale_by_power(value: __m512, exponent: __m512) -> __m512 {
                unsafe { _mm512_scalef_ps(value, exponent) }
            }
            #[inline(always)]
            unsafe fn prefetch(address: *const u8) {
                unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
            }
            #[inline(always)]
            unsafe fn zero_i() -> __m512i {
                unsafe { _mm512_setzero_si512() }
            }
            #[inline(always)]
            unsafe fn splat_i(value: i32) -> __m512i {
                unsafe { _mm512_set1_epi32(value) }
            }
            #[inline(always)]
            unsafe fn load_i(source: *const i32) -> __m512i {
                unsafe { _mm512_loadu_si512(source.cast()) }
            }
            #[inline(always)]
            unsafe fn store_i(target: *mut i32, value: __m512i) {
                unsafe { _mm512_storeu_si512(target.cast(), value) }
            }
            #[inline(always)]
            unsafe fn dot_i8(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
                unsafe { $dot_i8(sum, a, b) }
            }
            #[inline(always)]
            unsafe fn dot_i16(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
                unsafe { $dot_i16(sum, a, b) }
            }
            #[inline(always)]
            unsafe fn add_i(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn and_i(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_and_si512(a, b) }
            }
            #[inline(always)]
            unsafe fn or_i(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_or_si512(a, b) }
            }
            #[inline(always)]
            unsafe fn shift_left(a: __m512i, count: u32) -> __m512i {
                unsafe { _mm512_sllv_epi32(a, _mm512_set1_epi32(count.cast_signed())) }
            }
            #[inline(always)]
            unsafe fn shift_right(a: __m512i, count: u32) -> __m512i {
                unsafe { _mm512_srlv_epi32(a, _mm512_set1_epi32(count.cast_signed())) }
            }
            #[inline(always)]
            unsafe fn lookup(table: &[i8; 16], a: __m512i) -> __m512i {
                unsafe {
                    let table = _mm_loadu_si128(table.as_ptr().cast());
                    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), a)
                }
            }
            #[inline(always)]
            unsafe fn pair_of_bf16(low: __m512, high: __m512) -> __m512i {
                unsafe {
                    let half = _mm512_set1_epi32(0x8000);
                    let low = _mm512_add_epi32(_mm512_castps_si512(low), half);
                    let high = _mm512_add_epi32(_mm512_castps_si512(high), half);
                    let high = _mm512_and_si512(high, _mm512_set1_epi32(-0x1_0000));
                    _mm512_or_si512(high, _mm512_srli_epi32::<16>(low))
                }
            }
            #[inline(always)]
            unsafe fn to_f32(a: __m512i) -> __m512 {
                unsafe { _mm512_cvtepi32_ps(a) }
            }
            #[inline(always)]
            unsafe fn store_i8(target: *mut i8, value: __m512, offset: i32) {
                unsafe {
                    let wide =
                        _mm512_add_epi32(_mm512_cvtps_epi32(value), _mm512_set1_epi32(offset));
                    _mm_storeu_si128(target.cast(), _mm512_cvtepi32_epi8(wide));
                }
            }
            #[inline(always)]
            unsafe fn store_i16(target: *mut i16, value: __m512) {
                unsafe {
                    let halves = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(value));
                    _mm256_storeu_si256(target.cast(), halves);
                }
            }
        }
    };
}

avx512!(Vnni, true, _mm512_dpbusd_epi32, dot_i16_by_vnni);
avx512!(Avx512, false, dot_i8_by_halves, dot_i16_by_add);

/// Four signed bytes each by way of 16-bit products, which cannot saturate.
#[inline(always)]
unsafe fn dot_i8_by_halves(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: AVX-512 BW is there; see `run`. |a| ≤ 128 and |b| ≤ 127: a pair is at most 32,512.
    unsafe {
        let negative = _mm512_movepi8_mask(a);
        let signed = _mm512_mask_sub_epi8(b, negative, _mm512_setzero_si512(), b);
        let pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(a), signed);
        _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
    }
}

/// The instruction itself: from the intrinsic the compiler makes a product and a sum, which have the
/// shorter latency but, with twelve independent rows, half the throughput (LLVM 22, measured).
///
/// # Safety
///
/// As [`run_vnni`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dot_i16_by_vnni(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: AVX512-VNNI is there; see `run_vnni`.
    unsafe {
        std::arch::asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

#[inline(always)]
unsafe fn dot_i16_by_add(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: AVX-512 BW is there; see `run`.
    unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)) }
}
