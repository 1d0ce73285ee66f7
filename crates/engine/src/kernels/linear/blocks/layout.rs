//! Where the bits of a panel's block lie, and how they become bytes again.

use super::{BLOCK, Bits, WORDS};
use crate::kernels::rows::PANEL;
use crate::kernels::simd::Simd;

/// The numbers that four bits choose in GGML's `IQ4_NL` and `IQ4_XS`.
pub(crate) const LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Bytes of the low four bits of a panel's block.
const NIBBLES: usize = PANEL * BLOCK / 2;

/// Writes an output's integers of one block into its `column`.
pub(super) fn place(bits: Bits, unsigned: bool, quants: &[u8], column: usize, to: &mut [i8]) {
    if bits == Bits::Eight {
        let shift = if unsigned { 128 } else { 0 };
        for (word, quants) in quants.chunks_exact(4).enumerate() {
            let to = &mut to[(word * PANEL + column) * 4..][..4];
            for (to, quant) in to.iter_mut().zip(quants) {
                *to = quant.wrapping_add(shift).cast_signed();
            }
        }
        return;
    }
    let (nibbles, planes) = to.split_at_mut(NIBBLES);
    for (byte, low) in quants[..BLOCK / 2].iter().enumerate() {
        let high = quants[BLOCK / 2 + byte];
        let at = (byte / 4 * PANEL + column) * 4 + byte % 4;
        nibbles[at] = (low & 15 | high << 4).cast_signed();
    }
    // The bits above four: byte `b` of an output's plane has those of weights `4 w + b`, word by word.
    for (index, quant) in quants.iter().enumerate() {
        let (word, byte) = (index / 4, index % 4);
        let (plane, shift) = match bits {
            Bits::Five => (0, word),
            Bits::Six => (word / 4, 2 * (word % 4)),
            _ => return,
        };
        let at = (plane * PANEL + column) * 4 + byte;
        planes[at] |= (quant >> 4 << shift).cast_signed();
    }
}

/// How the bytes of a panel's block become words of four integers each.
pub(super) trait Layout: Copy {
    /// The largest integer, if none has a sign.
    const MOST: Option<i32>;

    /// The words of one vector of outputs, as unsigned (or, of 8 bits, signed) bytes.
    ///
    /// # Safety
    ///
    /// `from` is a panel's block of this layout, `column` the first of `LANES` of its outputs; the
    /// CPU has `S`.
    unsafe fn words<S: Simd>(from: *const i8, column: usize) -> [S::I; WORDS];
}

/// Word `row` of the outputs from `column` on.
#[inline(always)]
unsafe fn word<S: Simd>(from: *const i8, row: usize, column: usize) -> S::I {
    // SAFETY: the caller's.
    unsafe { S::load_i(from.cast::<i32>().add(row * PANEL + column)) }
}

/// `0 ..= 15`.
#[derive(Clone, Copy)]
pub(super) struct Four;

impl Layout for Four {
    const MOST: Option<i32> = Some(15);

    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const i8, column: usize) -> [S::I; WORDS] {
        // SAFETY: the caller's.
        unsafe {
            let mut words = [S::zero_i(); WORDS];
            for row in 0..WORDS / 2 {
                let both = word::<S>(from, row, column);
                [words[row], words[row + WORDS / 2]] = S::nibbles(both);
            }
            words
        }
    }
}

/// [`LEVELS`] of what [`Four`] reads.
#[derive(Clone, Copy)]
pub(super) struct Level;

impl Layout for Level {
    const MOST: Option<i32> = None;

    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const i8, column: usize) -> [S::I; WORDS] {
        const SHIFTED: [i8; 16] = {
            let mut shifted = LEVELS;
            let mut index = 0;
            while index < 16 {
                shifted[index] = LEVELS[index] ^ i8::MIN;
                index += 1;
            }
            shifted
        };
        let table = if S::UNSIGNED_ACTIVATIONS {
            &SHIFTED
        } else {
            &LEVELS
        };
        // SAFETY: the caller's.
        unsafe {
            let mut words = Four::words::<S>(from, column);
            for word in &mut words {
                *word = S::lookup(table, *word);
            }
            words
        }
    }
}

/// `0 ..= 31`.
#[derive(Clone, Copy)]
pub(super) struct Five;

impl Layout for Five {
    const MOST: Option<i32> = Some(31);

    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const i8, column: usize) -> [S::I; WORDS] {
        // SAFETY: the caller's.
        unsafe {
            let mut words = Four::words::<S>(from, column);
            let plane = word::<S>(from.add(NIBBLES), 0, column);
            let mask = S::splat_i(0x1010_1010);
            for (row, word) in words.iter_mut().enumerate() {
                let bits = shifted::<S>(plane, 4 - row as i32);
                *word = S::or_i(*word, S::and_i(bits, mask));
            }
            words
        }
    }
}

/// `0 ..= 63`.
#[derive(Clone, Copy)]
pub(super) struct Six;

impl Layout for Six {
    const MOST: Option<i32> = Some(63);

    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const i8, column: usize) -> [S::I; WORDS] {
        // SAFETY: the caller's.
        unsafe {
            let mut words = Four::words::<S>(from, column);
            let from = from.add(NIBBLES);
            let planes = [word::<S>(from, 0, column), word::<S>(from, 1, column)];
            let mask = S::splat_i(0x3030_3030);
            for (row, word) in words.iter_mut().enumerate() {
                let bits = shifted::<S>(planes[row / 4], 4 - 2 * (row as i32 % 4));
                *word = S::or_i(*word, S::and_i(bits, mask));
            }
            words
        }
    }
}

/// `-127 ..= 127`, or 128 higher where activations are unsigned.
#[derive(Clone, Copy)]
pub(super) struct Eight;

impl Layout for Eight {
    const MOST: Option<i32> = None;

    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const i8, column: usize) -> [S::I; WORDS] {
        // SAFETY: the caller's.
        unsafe {
            let mut words = [S::zero_i(); WORDS];
            for (row, to) in words.iter_mut().enumerate() {
                *to = word::<S>(from, row, column);
            }
            words
        }
    }
}

/// Bits `count` to the left, or to the right if it is negative.
#[inline(always)]
unsafe fn shifted<S: Simd>(value: S::I, count: i32) -> S::I {
    // SAFETY: the CPU has `S`.
    unsafe {
        if count >= 0 {
            S::shift_left(value, count.unsigned_abs())
        } else {
            S::shift_right(value, count.unsigned_abs())
        }
    }
}
