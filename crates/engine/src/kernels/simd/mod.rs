//! The few vector operations that the kernels are written in, once per instruction set.
//!
//! A kernel is a struct that implements [`Kernel`]; [`run`] is the only place where an instruction
//! set is chosen. All operations are `inline(always)` so that they end up inside the one function
//! that carries the `target_feature`.

use super::isa::{Isa, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Vnni;

/// Vector operations of one instruction set.
///
/// # Safety
///
/// Every method requires that the CPU has the instruction set; pointers must be valid for
/// `LANES` elements (unaligned is fine).
pub(crate) unsafe trait Simd: Copy + 'static {
    /// `f32` (and `i32`) lanes of a vector.
    const LANES: usize;
    /// Rows of a register tile of two vectors: as many as leave no accumulator in memory.
    const ROWS: usize;
    /// True if [`Simd::dot_i8`] wants activations shifted by 128 into unsigned bytes.
    const UNSIGNED_ACTIVATIONS: bool;
    /// `LANES` × `f32`.
    type F: Copy;
    /// `LANES` × `i32`.
    type I: Copy;

    unsafe fn splat(value: f32) -> Self::F;
    unsafe fn load(source: *const f32) -> Self::F;
    unsafe fn store(target: *mut f32, value: Self::F);
    /// `LANES` × bf16 as `f32`.
    unsafe fn load_bf16(source: *const u16) -> Self::F;
    /// `LANES` signed bytes as `f32`.
    unsafe fn load_i8(source: *const i8) -> Self::F;
    /// `LANES` × half precision as `f32`.
    unsafe fn load_f16(source: *const u16) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sum(a: Self::F) -> f32;
    unsafe fn maximum(a: Self::F) -> f32;
    /// `value · 2^exponent` for integral `exponent` in −126..=127.
    unsafe fn scale_by_power(value: Self::F, exponent: Self::F) -> Self::F;

    /// Asks for the cache line at `address` in the second-level cache; any address will do.
    unsafe fn prefetch(address: *const u8);

    unsafe fn zero_i() -> Self::I;
    /// The same four bytes in every lane.
    unsafe fn splat_i(value: i32) -> Self::I;
    unsafe fn load_i(source: *const i32) -> Self::I;
    unsafe fn store_i(target: *mut i32, value: Self::I);
    /// `sum` plus, in each lane, the products of the four bytes of `a` and of `b`. `a` is unsigned if
    /// [`Simd::UNSIGNED_ACTIVATIONS`], else signed; `b` is in −127..=127.
    unsafe fn dot_i8(sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// In each lane the products of the bytes of `a`, 0 to `most` (at most 64), and of those of as many
    /// words at `b`, which are in −127..=127 and the same for all lanes.
    #[inline(always)]
    unsafe fn dot_small(a: &[Self::I], b: *const i32, most: i32) -> Self::I {
        debug_assert!(most <= 64);
        // SAFETY: the caller's.
        unsafe {
            let mut sum = Self::zero_i();
            for (word, a) in a.iter().enumerate() {
                sum = Self::dot_i8(sum, *a, Self::splat_i(b.add(word).read()));
            }
            sum
        }
    }
    /// `sum` plus, in each lane, the products of the two 16-bit integers of `a` and of `b`.
    unsafe fn dot_i16(sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// The low and the high four bits of each byte, as bytes.
    unsafe fn nibbles(a: Self::I) -> [Self::I; 2];
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn and_i(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn or_i(a: Self::I, b: Self::I) -> Self::I;
    /// Each lane's bits `count` (below 32, a constant once inlined) to the left.
    unsafe fn shift_left(a: Self::I, count: u32) -> Self::I;
    /// Each lane's bits `count` (below 32, a constant once inlined) to the right, zeros following.
    unsafe fn shift_right(a: Self::I, count: u32) -> Self::I;
    /// The byte of `table` that each byte of `a` (0..=15) chooses.
    unsafe fn lookup(table: &[i8; 16], a: Self::I) -> Self::I;
    /// In each lane two bf16, `low` in the lower half: rounded to nearest, ties away from zero.
    unsafe fn pair_of_bf16(low: Self::F, high: Self::F) -> Self::I;
    unsafe fn to_f32(a: Self::I) -> Self::F;
    /// Rounded to the nearest integer, stored as bytes (`value + offset`, which must fit).
    unsafe fn store_i8(target: *mut i8, value: Self::F, offset: i32);
    /// Rounded to the nearest integer, stored as 16 bits, which must fit.
    unsafe fn store_i16(target: *mut i16, value: Self::F);
}

/// A computation written over [`Simd`].
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// The computation; mark it `inline(always)`.
    ///
    /// # Safety
    ///
    /// The CPU must have the instruction set `S`, and the kernel's own fields must be valid.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs `kernel` on `isa`.
///
/// # Safety
///
/// The kernel's fields (pointers, lengths) must be valid, as its own documentation says.
#[inline]
pub(crate) unsafe fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    // SAFETY: an `Isa` exists only for a level that this CPU reported; the caller answers for the
    // kernel's fields.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Amx | Level::Vnni => avx512::run_vnni(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::run(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::run(kernel),
            _ => kernel.run::<portable::Portable>(),
        }
    }
}
