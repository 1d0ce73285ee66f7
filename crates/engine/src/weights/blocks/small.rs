//! Blocks of 32 weights: byte `j` of the nibbles holds weight `j` low and weight `j + 16` high.

use super::{IQ4_LEVELS, half_at};

/// Twice the levels of the 4-bit float E2M1, to go with half of the scale.
const MXFP4_LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Scale, nibbles: `(q - 8) · d`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], out, |q, _| (i32::from(q) - 8) as f32 * d);
}

/// Scale, minimum, nibbles: `q · d + m`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], out, |q, _| f32::from(q) * d + m);
}

/// Scale, 32 fifth bits, nibbles: `(q - 16) · d`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = fifth_bits(block[2..6].try_into().expect("four bytes"));
    nibbles(&block[6..], out, |q, j| {
        (i32::from(q | high(j)) - 16) as f32 * d
    });
}

/// Scale, minimum, 32 fifth bits, nibbles: `q · d + m`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = fifth_bits(block[4..8].try_into().expect("four bytes"));
    nibbles(&block[8..], out, |q, j| f32::from(q | high(j)) * d + m);
}

/// Scale, 32 signed bytes.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, q) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(q.cast_signed()) * d;
    }
}

/// Scale, nibbles that choose one of sixteen uneven levels.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], out, |q, _| {
        d * f32::from(IQ4_LEVELS[usize::from(q)])
    });
}

/// A power of two as an exponent alone, nibbles of 4-bit floats.
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let exponent = u32::from(block[0]);
    // Half of 2^(e - 127), in bits; the two smallest are subnormal.
    let bits = if exponent < 2 {
        0x0020_0000 << exponent
    } else {
        (exponent - 1) << 23
    };
    let d = f32::from_bits(bits);
    nibbles(&block[1..], out, |q, _| {
        f32::from(MXFP4_LEVELS[usize::from(q)]) * d
    });
}

/// Gives `value` each 4-bit number and the index of its weight.
#[inline]
fn nibbles(bytes: &[u8], out: &mut [f32; 32], value: impl Fn(u8, usize) -> f32) {
    for (j, byte) in bytes[..16].iter().enumerate() {
        out[j] = value(byte & 15, j);
        out[j + 16] = value(byte >> 4, j + 16);
    }
}

/// The fifth bit of weight `j`, in its place.
fn fifth_bits(bytes: [u8; 4]) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes(bytes);
    move |j| ((bits >> j) as u8 & 1) << 4
}
