//! Rows of GGUF's block types as integers by block.

use half::f16;

use crate::kernels::linear::{BLOCK, Bits, BlockRow, Minimum, Stored};
use crate::weights::{Dtype, Tensor};
use crate::{ErrorKind, Result};

/// How weights of `dtype` are kept: exactly, but for the products of two scales in the types of 256,
/// which are rounded to half precision. The types that are not among these are rounded to 8 bits.
pub(super) fn stored(dtype: Dtype) -> Option<Stored> {
    Some(match dtype {
        Dtype::Q4_0 => Stored::new(Bits::Four, Minimum::Scales(-8)),
        Dtype::Q4_1 | Dtype::Q4K => Stored::new(Bits::Four, Minimum::Stored),
        Dtype::Q5_0 => Stored::new(Bits::Five, Minimum::Scales(-16)),
        Dtype::Q5_1 | Dtype::Q5K => Stored::new(Bits::Five, Minimum::Stored),
        Dtype::Q2K => Stored::new(Bits::Four, Minimum::Stored).by_halves(),
        Dtype::Q3K => Stored::new(Bits::Four, Minimum::Scales(-4)).by_halves(),
        Dtype::Q6K => Stored::new(Bits::Six, Minimum::Scales(-32)).by_halves(),
        Dtype::IQ4NL | Dtype::IQ4XS => Stored::new(Bits::Level, Minimum::Scales(0)),
        dtype if dtype.block_size() > 1 => Stored::new(Bits::Eight, Minimum::Scales(0)),
        _ => return None,
    })
}

/// Reads a row of `tensor`.
pub(super) fn block_row(tensor: &Tensor<'_>, row: usize, into: &mut BlockRow) -> Result<()> {
    let columns = tensor.columns();
    let row_bytes = tensor.dtype.size_of(columns).unwrap_or(0);
    let bytes = tensor.bytes.get(row * row_bytes..(row + 1) * row_bytes);
    let Some(bytes) = bytes.filter(|_| into.quants.len() == columns) else {
        return Err(ErrorKind::TensorShape {
            tensor: tensor.name.to_owned(),
            expected: vec![row + 1, into.quants.len()],
            received: tensor.shape.to_vec(),
        }
        .into());
    };
    match tensor.dtype {
        Dtype::Q4_0 | Dtype::IQ4NL => small_blocks::<18>(bytes, into, false, false),
        Dtype::Q4_1 => small_blocks::<20>(bytes, into, true, false),
        Dtype::Q5_0 => small_blocks::<22>(bytes, into, false, true),
        Dtype::Q5_1 => small_blocks::<24>(bytes, into, true, true),
        Dtype::Q8_0 => q8_0(bytes, into),
        Dtype::Q2K => q2_k(bytes, into),
        Dtype::Q3K => q3_k(bytes, into),
        Dtype::Q4K => q4_k(bytes, into),
        Dtype::Q5K => q5_k(bytes, into),
        Dtype::Q6K => q6_k(bytes, into),
        Dtype::IQ4XS => iq4_xs(bytes, into),
        _ => {
            let mut values = vec![0.0; columns];
            tensor.row_f32(row, &mut values)?;
            round(&values, into);
        }
    }
    finite(tensor, row, into)
}

/// Scales that are NaN or infinite would spoil every answer.
fn finite(tensor: &Tensor<'_>, row: usize, into: &BlockRow) -> Result<()> {
    let facts = into.scales.iter().zip(&into.minima);
    let bad = facts
        .into_iter()
        .position(|(scale, minimum)| !(scale + minimum).is_finite());
    match bad {
        None => Ok(()),
        Some(group) => Err(ErrorKind::NotFinite {
            tensor: tensor.name.to_owned(),
            index: row * tensor.columns() + group * (into.quants.len() / into.scales.len()),
            value: into.scales[group] + into.minima[group],
        }
        .into()),
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Scale, perhaps a minimum, perhaps 32 fifth bits, 16 bytes of nibbles: weight `j` low and weight
/// `j + 16` high.
fn small_blocks<const BYTES: usize>(bytes: &[u8], into: &mut BlockRow, minimum: bool, fifth: bool) {
    for (block, bytes) in bytes.chunks_exact(BYTES).enumerate() {
        into.scales[block] = half_at(bytes, 0);
        into.minima[block] = if minimum { half_at(bytes, 2) } else { 0.0 };
        let quants = &mut into.quants[block * BLOCK..][..BLOCK];
        let (low, high) = quants.split_at_mut(BLOCK / 2);
        let nibbles = low.iter_mut().zip(high).zip(&bytes[BYTES - BLOCK / 2..]);
        for ((low, high), byte) in nibbles {
            (*low, *high) = (byte & 15, byte >> 4);
        }
        if fifth {
            let bits = &bytes[BYTES - BLOCK / 2 - 4..];
            for (at, quant) in quants.iter_mut().enumerate() {
                *quant |= (bits[at / 8] >> (at % 8) & 1) << 4;
            }
        }
    }
}

fn q8_0(bytes: &[u8], into: &mut BlockRow) {
    for (block, bytes) in bytes.chunks_exact(2 + BLOCK).enumerate() {
        into.scales[block] = half_at(bytes, 0);
        into.quants[block * BLOCK..][..BLOCK].copy_from_slice(&bytes[2..]);
    }
}

/// Scales and minima (4 bits each) of 16 groups, 2-bit weights, `d`, `dmin`.
fn q2_k(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(84).enumerate() {
        let (d, dmin) = (half_at(bytes, 80), half_at(bytes, 82));
        for (group, scale) in bytes[..16].iter().enumerate() {
            into.scales[index * 16 + group] = d * f32::from(scale & 15);
            into.minima[index * 16 + group] = -dmin * f32::from(scale >> 4);
            let (at, shift) = two_bits(group);
            let quants = &mut into.quants[index * 256 + group * 16..][..16];
            for (quant, byte) in quants.iter_mut().zip(&bytes[16 + at..]) {
                *quant = byte >> shift & 3;
            }
        }
    }
}

/// Third bits, 2-bit weights, 6-bit scales of 16 groups, `d`; weights count from -4.
fn q3_k(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(110).enumerate() {
        let (masks, pairs, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
        let d = half_at(bytes, 108);
        for group in 0..16 {
            let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
            let high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
            into.scales[index * 16 + group] = d * (f32::from(low | (high << 4)) - 32.0);
            into.minima[index * 16 + group] = 0.0;
            let (at, shift) = two_bits(group);
            let masks = &masks[16 * (group % 2)..];
            let quants = &mut into.quants[index * 256 + group * 16..][..16];
            for (quant, (byte, mask)) in quants.iter_mut().zip(pairs[at..].iter().zip(masks)) {
                *quant = byte >> shift & 3 | (mask >> (group / 2) & 1) << 2;
            }
        }
    }
}

/// Where the 2-bit weights of a group of 16 lie: first byte and shift.
fn two_bits(group: usize) -> (usize, usize) {
    (32 * (group / 8) + 16 * (group % 2), 2 * ((group % 8) / 2))
}

/// Eight blocks of 32 with 6-bit scales and minima: see `weights::blocks`.
fn q4_k(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(144).enumerate() {
        scales_and_minima(bytes, index, into);
        let quants = &mut into.quants[index * 256..][..256];
        for (group, quants) in quants.chunks_exact_mut(BLOCK).enumerate() {
            for (quant, byte) in quants.iter_mut().zip(&bytes[16 + 32 * (group / 2)..]) {
                *quant = byte >> (4 * (group % 2)) & 15;
            }
        }
    }
}

/// As Q4_K with a fifth bit: byte `l` of the fifth bits holds those of weight `l` of each block.
fn q5_k(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(176).enumerate() {
        scales_and_minima(bytes, index, into);
        let fifth = &bytes[16..48];
        let quants = &mut into.quants[index * 256..][..256];
        for (group, quants) in quants.chunks_exact_mut(BLOCK).enumerate() {
            let low = &bytes[48 + 32 * (group / 2)..];
            for (quant, (byte, bits)) in quants.iter_mut().zip(low.iter().zip(fifth)) {
                *quant = byte >> (4 * (group % 2)) & 15 | (bits >> group & 1) << 4;
            }
        }
    }
}

fn scales_and_minima(bytes: &[u8], index: usize, into: &mut BlockRow) {
    let (d, dmin, packed) = (half_at(bytes, 0), half_at(bytes, 2), &bytes[4..16]);
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let low = packed[group + 4];
            let scale = (low & 15) | (packed[group - 4] >> 6 << 4);
            (scale, (low >> 4) | (packed[group] >> 6 << 4))
        };
        into.scales[index * 8 + group] = d * f32::from(scale);
        into.minima[index * 8 + group] = -dmin * f32::from(minimum);
    }
}

/// Nibbles, upper 2 bits, signed scales of 16 groups, `d`; weights count from -32.
fn q6_k(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(210).enumerate() {
        let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
        let d = half_at(bytes, 208);
        for (group, scale) in scales.iter().enumerate() {
            into.scales[index * 16 + group] = d * f32::from(scale.cast_signed());
            into.minima[index * 16 + group] = 0.0;
            let (half, run, within) = (group / 8, (group % 8) / 2, 16 * (group % 2));
            let low = &low[64 * half + 32 * (run % 2) + within..];
            let high = &high[32 * half + within..];
            let quants = &mut into.quants[index * 256 + group * 16..][..16];
            for (quant, (low, high)) in quants.iter_mut().zip(low.iter().zip(high)) {
                *quant = low >> (4 * (run / 2)) & 15 | (high >> (2 * run) & 3) << 4;
            }
        }
    }
}

/// `d`, upper 2 bits and lower 4 bits of the scales of 8 blocks, nibbles that choose a level.
fn iq4_xs(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(136).enumerate() {
        let d = half_at(bytes, 0);
        let scales_high = u16::from_le_bytes([bytes[2], bytes[3]]);
        for group in 0..8 {
            let low = bytes[4 + group / 2] >> (4 * (group % 2)) & 15;
            let high = (scales_high >> (2 * group)).to_le_bytes()[0] & 3;
            into.scales[index * 8 + group] = d * (f32::from(low | (high << 4)) - 32.0);
            into.minima[index * 8 + group] = 0.0;
            let quants = &mut into.quants[index * 256 + group * BLOCK..][..BLOCK];
            let (first, second) = quants.split_at_mut(BLOCK / 2);
            let nibbles = first.iter_mut().zip(second).zip(&bytes[8 + 16 * group..]);
            for ((low, high), byte) in nibbles {
                (*low, *high) = (byte & 15, byte >> 4);
            }
        }
    }
}

/// 8 bits with sign, the largest of each block at ±127.
fn round(values: &[f32], into: &mut BlockRow) {
    for (block, values) in values.chunks_exact(BLOCK).enumerate() {
        let largest = values
            .iter()
            .fold(0.0_f32, |largest, value| largest.max(value.abs()));
        // With the scale as it will be kept, so that its own rounding adds nothing.
        let scale = f16::from_f32(largest / 127.0).to_f32();
        let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        into.scales[block] = scale;
        into.minima[block] = 0.0;
        let quants = &mut into.quants[block * BLOCK..][..BLOCK];
        for (quant, value) in quants.iter_mut().zip(values) {
            #[expect(clippy::cast_possible_truncation, reason = "within ±127")]
            let rounded = (value * factor).round().clamp(-127.0, 127.0) as i8;
            *quant = rounded.cast_unsigned();
        }
    }
}

#[cfg(test)]
mod tests;
