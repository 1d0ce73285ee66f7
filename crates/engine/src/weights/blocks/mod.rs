//! Blocks of quantised weights, unpacked to `f32`.
//!
//! The layouts are those of `ggml-common.h`; products and sums are rounded in the order of its
//! `dequantize_row_*` functions, so that the numbers agree to the bit.

mod k;
mod small;
mod ternary;

use half::{bf16, f16};

use super::Dtype;
use crate::kernels::linear::LEVELS as IQ4_LEVELS;

/// Unpacks whole blocks of `bytes` into `out`; false if the type is not one of numbers.
///
/// The caller sees to it that `bytes` holds `out.len()` weights.
pub(super) fn dequantize(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::F32 => plain(bytes, out, f32::from_le_bytes),
        Dtype::F16 => plain(bytes, out, |number| f16::from_le_bytes(number).to_f32()),
        Dtype::BF16 => plain(bytes, out, |number| bf16::from_le_bytes(number).to_f32()),
        Dtype::F64 => plain(bytes, out, |number| f64::from_le_bytes(number) as f32),
        Dtype::Q4_0 => each(bytes, out, small::q4_0),
        Dtype::Q4_1 => each(bytes, out, small::q4_1),
        Dtype::Q5_0 => each(bytes, out, small::q5_0),
        Dtype::Q5_1 => each(bytes, out, small::q5_1),
        Dtype::Q8_0 => each(bytes, out, small::q8_0),
        Dtype::IQ4NL => each(bytes, out, small::iq4_nl),
        Dtype::MXFP4 => each(bytes, out, small::mxfp4),
        Dtype::Q2K => each(bytes, out, k::q2_k),
        Dtype::Q3K => each(bytes, out, k::q3_k),
        Dtype::Q4K => each(bytes, out, k::q4_k),
        Dtype::Q5K => each(bytes, out, k::q5_k),
        Dtype::Q6K => each(bytes, out, k::q6_k),
        Dtype::IQ4XS => each(bytes, out, k::iq4_xs),
        Dtype::TQ1_0 => each(bytes, out, ternary::tq1_0),
        Dtype::TQ2_0 => each(bytes, out, ternary::tq2_0),
        _ => return false,
    }
    true
}

/// Reads one number after another.
fn plain<const BYTES: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; BYTES]) -> f32) {
    let (numbers, _) = bytes.as_chunks::<BYTES>();
    for (value, number) in out.iter_mut().zip(numbers) {
        *value = read(*number);
    }
}

/// Calls `unpack` for each block of `BYTES` bytes and `SIZE` weights.
fn each<const BYTES: usize, const SIZE: usize>(
    bytes: &[u8],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES], &mut [f32; SIZE]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (rows, _) = out.as_chunks_mut::<SIZE>();
    for (block, row) in blocks.iter().zip(rows) {
        unpack(block, row);
    }
}

/// The half-precision number at `at`.
fn half_at<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests;
