//! Plain Rust over eight lanes: the definition, and what the compiler vectorises for other CPUs.

use super::Simd;

#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

const LANES: usize = 8;
type F = [f32; LANES];
type I = [i32; LANES];

#[inline(always)]
fn zip(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// The signed bytes or 16-bit halves of a lane.
#[inline(always)]
fn bytes(value: i32) -> [i32; 4] {
    value
        .to_le_bytes()
        .map(|byte| i32::from(byte.cast_signed()))
}

#[inline(always)]
fn halves(value: i32) -> [i32; 2] {
    [value << 16 >> 16, value >> 16]
}

// SAFETY: plain Rust; pointer validity is the caller's.
unsafe impl Simd for Portable {
    const LANES: usize = LANES;
    const ROWS: usize = 6;
    const UNSIGNED_ACTIVATIONS: bool = false;
    type F = F;
    type I = I;

    #[inline(always)]
    unsafe fn splat(value: f32) -> F {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(source: *const f32) -> F {
        // SAFETY: valid for LANES elements.
        unsafe { source.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(target: *mut f32, value: F) {
        // SAFETY: valid for LANES elements.
        unsafe { target.cast::<F>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn load_bf16(source: *const u16) -> F {
        // SAFETY: valid for LANES elements.
        let bits = unsafe { source.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    unsafe fn load_i8(source: *const i8) -> F {
        // SAFETY: valid for LANES elements.
        let bytes = unsafe { source.cast::<[i8; LANES]>().read_unaligned() };
        bytes.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_f16(source: *const u16) -> F {
        // SAFETY: valid for LANES elements.
        let bits = unsafe { source.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn nibbles(a: I) -> [I; 2] {
        [
            a.map(|word| word & 0x0F0F_0F0F),
            a.map(|word| word >> 4 & 0x0F0F_0F0F),
        ]
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        // On ARM one instruction; on baseline x86-64 `mul_add` would call the C library.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
        } else {
            std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
        }
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        (a[0] + a[4]) + (a[2] + a[6]) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    unsafe fn maximum(a: F) -> f32 {
        a.into_iter()
            .fold(f32::NEG_INFINITY, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn scale_by_power(value: F, exponent: F) -> F {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "integral, -126..=127"
        )]
        zip(value, exponent, |x, e| {
            x * f32::from_bits(((e as i32 + 127) as u32) << 23)
        })
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn zero_i() -> I {
        [0; LANES]
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> I {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load_i(source: *const i32) -> I {
        // SAFETY: valid for LANES elements.
        unsafe { source.cast::<I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i(target: *mut i32, value: I) {
        // SAFETY: valid for LANES elements.
        unsafe { target.cast::<I>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn dot_i8(sum: I, a: I, b: I) -> I {
        std::array::from_fn(|lane| {
            let (x, y) = (bytes(a[lane]), bytes(b[lane]));
            sum[lane] + x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3]
        })
    }
    #[inline(always)]
    unsafe fn dot_i16(sum: I, a: I, b: I) -> I {
        std::array::from_fn(|lane| {
            let (x, y) = (halves(a[lane]), halves(b[lane]));
            sum[lane] + x[0] * y[0] + x[1] * y[1]
        })
    }
    #[inline(always)]
    unsafe fn add_i(a: I, b: I) -> I {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
    #[inline(always)]
    unsafe fn and_i(a: I, b: I) -> I {
        std::array::from_fn(|lane| a[lane] & b[lane])
    }
    #[inline(always)]
    unsafe fn or_i(a: I, b: I) -> I {
        std::array::from_fn(|lane| a[lane] | b[lane])
    }
    #[inline(always)]
    unsafe fn shift_left(a: I, count: u32) -> I {
        a.map(|word| word << count)
    }
    #[inline(always)]
    unsafe fn shift_right(a: I, count: u32) -> I {
        a.map(|word| (word.cast_unsigned() >> count).cast_signed())
    }
    #[inline(always)]
    unsafe fn lookup(table: &[i8; 16], a: I) -> I {
        a.map(|word| {
            let choose = |byte: u8| table[usize::from(byte & 15)].cast_unsigned();
            i32::from_le_bytes(word.to_le_bytes().map(choose))
        })
    }
    #[inline(always)]
    unsafe fn pair_of_bf16(low: F, high: F) -> I {
        std::array::from_fn(|lane| {
            let rounded = |value: f32| value.to_bits().wrapping_add(0x8000);
            (rounded(high[lane]) & 0xFFFF_0000 | rounded(low[lane]) >> 16).cast_signed()
        })
    }
    #[inline(always)]
    unsafe fn to_f32(a: I) -> F {
        #[expect(
            clippy::cast_precision_loss,
            reason = "sums are rounded to f32 on purpose"
        )]
        a.map(|value| value as f32)
    }
    #[inline(always)]
    unsafe fn store_i8(target: *mut i8, value: F, offset: i32) {
        for (lane, value) in value.into_iter().enumerate() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the caller scaled it to fit"
            )]
            // SAFETY: valid for LANES elements.
            unsafe {
                target.add(lane).write((round(value) + offset) as i8);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_i16(target: *mut i16, value: F) {
        for (lane, value) in value.into_iter().enumerate() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the caller scaled it to fit"
            )]
            // SAFETY: valid for LANES elements.
            unsafe {
                target.add(lane).write(round(value) as i16);
            }
        }
    }
}

/// Round half to even, as the vector units do; adding 1.5·2²³ leaves the integer in the low bits.
#[inline(always)]
fn round(value: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (value + MAGIC).to_bits().cast_signed() - MAGIC.to_bits().cast_signed()
}
