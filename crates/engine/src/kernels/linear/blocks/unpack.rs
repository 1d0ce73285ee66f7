//! Blocks back to numbers, a panel's block at a time.

use std::ops::Range;

use super::layout::Layout;
use super::{BLOCK, Bits, Piece, WORDS, by_layout};
use crate::kernels::rows::PANEL;
use crate::kernels::simd::Simd;

/// The numbers that a product wants, and where it wants them.
pub(super) trait Form: Copy {
    /// Words of a panel's block.
    const STEP: usize;

    /// Writes four inputs of `LANES` outputs, the inputs of word `word` of a block.
    ///
    /// # Safety
    ///
    /// `to` is valid for a step from the first of the outputs on; the CPU has `S`.
    unsafe fn write<S: Simd>(to: *mut i32, word: usize, values: [S::F; 4]);
}

/// Pairs of bf16, for tiles.
#[derive(Clone, Copy)]
pub(super) struct Pairs;

impl Form for Pairs {
    const STEP: usize = BLOCK / 2 * PANEL;

    #[inline(always)]
    unsafe fn write<S: Simd>(to: *mut i32, word: usize, [a, b, c, d]: [S::F; 4]) {
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(2 * word * PANEL);
            S::store_i(to, S::pair_of_bf16(a, b));
            S::store_i(to.add(PANEL), S::pair_of_bf16(c, d));
        }
    }
}

/// `f32`, an input after the other.
#[derive(Clone, Copy)]
pub(super) struct Floats;

impl Form for Floats {
    const STEP: usize = BLOCK * PANEL;

    #[inline(always)]
    unsafe fn write<S: Simd>(to: *mut i32, word: usize, values: [S::F; 4]) {
        for (input, value) in values.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { S::store(to.cast::<f32>().add((4 * word + input) * PANEL), value) };
        }
    }
}

impl Piece {
    /// Writes the weights of some of a panel's `all` blocks, one after the other.
    ///
    /// # Safety
    ///
    /// `panel` is one of this piece's, `to` valid for a step a block; the CPU has `S`.
    #[inline(always)]
    pub(super) unsafe fn unpack<S: Simd, F: Form>(
        &self,
        panel: usize,
        blocks: Range<usize>,
        all: usize,
        to: *mut i32,
    ) {
        let block_bytes = self.stored.block_bytes();
        let first = (panel - self.panels.start) * all + blocks.start;
        // SAFETY: the caller's.
        unsafe {
            let from = self.bytes.as_ptr().add(first * block_bytes);
            by_layout!(self.stored, L, HALVES =>
                self.unpack_as::<S, F, L, HALVES>(from, blocks.len(), to));
        }
    }

    /// # Safety
    ///
    /// As [`Piece::unpack`]; the layout is this piece's.
    #[inline(always)]
    unsafe fn unpack_as<S: Simd, F: Form, L: Layout, const HALVES: bool>(
        &self,
        from: *const i8,
        blocks: usize,
        to: *mut i32,
    ) {
        let (block_bytes, weight_bytes) = (self.stored.block_bytes(), self.stored.weight_bytes());
        let groups = if HALVES { 2 } else { 1 };
        // Bytes that were not packed 128 higher have a sign.
        let signed =
            !S::UNSIGNED_ACTIVATIONS && matches!(self.stored.bits, Bits::Eight | Bits::Level);
        for block in 0..blocks {
            // SAFETY: the caller's.
            unsafe {
                let base = from.add(block * block_bytes);
                let facts = base.add(weight_bytes).cast::<u16>();
                for column in (0..PANEL).step_by(S::LANES) {
                    let fact = |kind: usize| S::load_f16(facts.add(kind * PANEL + column));
                    let words = L::words::<S>(base, column);
                    let to = to.add(block * F::STEP + column);
                    for (word, four) in words.into_iter().enumerate() {
                        let group = if HALVES { word / (WORDS / 2) } else { 0 };
                        let scale = fact(group);
                        let minimum = match self.factor {
                            Some(factor) => S::mul(scale, S::splat(factor)),
                            None => fact(groups + group),
                        };
                        let facts = (scale, minimum);
                        // Not a closure, which might be compiled without the vector instructions.
                        let values = [
                            value::<S>(four, 0, signed, facts),
                            value::<S>(four, 1, signed, facts),
                            value::<S>(four, 2, signed, facts),
                            value::<S>(four, 3, signed, facts),
                        ];
                        F::write::<S>(to, word, values);
                    }
                }
            }
        }
    }
}

/// The weight in byte `byte` of each word of `four`.
///
/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn value<S: Simd>(
    four: S::I,
    byte: u32,
    signed: bool,
    (scale, minimum): (S::F, S::F),
) -> S::F {
    // SAFETY: the caller's.
    unsafe {
        let low = S::splat_i(0xFF);
        let integer = S::and_i(S::shift_right(four, 8 * byte), low);
        if !signed {
            return S::fma(S::to_f32(integer), scale, minimum);
        }
        let above = S::to_f32(S::and_i(S::add_i(integer, S::splat_i(128)), low));
        S::fma(S::sub(above, S::splat(128.0)), scale, minimum)
    }
}
