//! Rows of GGUF's block types as integers by block.

use half::f16;

use crate::kernels::linear::{BLOCK, BlockRow, Stored};
use crate::weights::{Dtype, Tensor};
use crate::{ErrorKind, Result};

/// How weights of `dtype` are kept: those of 4 bits and Q8_0 exactly (but for the product of two
/// scales in Q4_K, which is rounded to half precision); other block types are rounded to 8 bits.
pub(super) fn stored(dtype: Dtype) -> Option<Stored> {
    Some(match dtype {
        Dtype::Q4_0 => Stored::FourAroundEight,
        Dtype::Q4_1 | Dtype::Q4K => Stored::FourWithMinimum,
        dtype if dtype.block_size() > 1 => Stored::Eight,
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
        Dtype::Q4_0 => small_blocks::<18>(bytes, into, false),
        Dtype::Q4_1 => small_blocks::<20>(bytes, into, true),
        Dtype::Q8_0 => q8_0(bytes, into),
        Dtype::Q4K => q4_k(bytes, into),
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
        Some(block) => Err(ErrorKind::NotFinite {
            tensor: tensor.name.to_owned(),
            index: row * tensor.columns() + block * BLOCK,
            value: into.scales[block] + into.minima[block],
        }
        .into()),
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Scale, perhaps a minimum, 16 bytes of nibbles: weight `j` low and weight `j + 16` high.
fn small_blocks<const BYTES: usize>(bytes: &[u8], into: &mut BlockRow, minimum: bool) {
    for (block, bytes) in bytes.chunks_exact(BYTES).enumerate() {
        into.scales[block] = half_at(bytes, 0);
        into.minima[block] = if minimum { half_at(bytes, 2) } else { 0.0 };
        let quants = &mut into.quants[block * BLOCK..][..BLOCK];
        let (low, high) = quants.split_at_mut(BLOCK / 2);
        let nibbles = low.iter_mut().zip(high).zip(&bytes[BYTES - BLOCK / 2..]);
        for ((low, high), byte) in nibbles {
            (*low, *high) = (byte & 15, byte >> 4);
        }
    }
}

fn q8_0(bytes: &[u8], into: &mut BlockRow) {
    for (block, bytes) in bytes.chunks_exact(2 + BLOCK).enumerate() {
        into.scales[block] = half_at(bytes, 0);
        into.quants[block * BLOCK..][..BLOCK].copy_from_slice(&bytes[2..]);
    }
}

/// Eight blocks of 32 with 6-bit scales and minima: see `weights::blocks`.
fn q4_k(bytes: &[u8], into: &mut BlockRow) {
    for (index, bytes) in bytes.chunks_exact(144).enumerate() {
        let (d, dmin) = (half_at(bytes, 0), half_at(bytes, 2));
        let (packed, nibbles) = (&bytes[4..16], &bytes[16..]);
        for group in 0..8 {
            let (scale, minimum) = if group < 4 {
                (packed[group] & 63, packed[group + 4] & 63)
            } else {
                let low = packed[group + 4];
                let scale = (low & 15) | (packed[group - 4] >> 6 << 4);
                (scale, (low >> 4) | (packed[group] >> 6 << 4))
            };
            let block = index * 8 + group;
            into.scales[block] = d * f32::from(scale);
            into.minima[block] = -dmin * f32::from(minimum);
            let quants = &mut into.quants[block * BLOCK..][..BLOCK];
            for (quant, byte) in quants.iter_mut().zip(&nibbles[32 * (group / 2)..]) {
                *quant = byte >> (4 * (group % 2)) & 15;
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
mod tests {
    use super::*;
    use crate::kernels::isa::Isa;
    use crate::kernels::linear::{BlockPart, Linear};
    use crate::kernels::rows::padded;
    use crate::kernels::team::Team;
    use crate::weights::Weights;

    /// Products with the packed blocks agree with products with the dequantised rows, on every
    /// instruction set, up to the rounding of activations.
    #[test]
    fn products_agree_with_dequantised_rows() {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let files = [
            "gguf/llama-Q4_0.gguf",
            "gguf/llama-Q8_0.gguf",
            "gguf/llama_256-Q4_K_M.gguf",
            "decoders/gguf/qwen2-Q4_1.gguf",
            "decoders/gguf/qwen3-Q5_0.gguf",
        ];
        for file in files {
            let weights = Weights::open(&fixtures.join(file)).unwrap();
            for name in ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"] {
                let tensor = weights.get(name).unwrap();
                for isa in Isa::available() {
                    for rows in [1, 2, 5, 13] {
                        check(&tensor, isa, rows);
                    }
                }
            }
        }
    }

    fn check(tensor: &Tensor<'_>, isa: Isa, rows: usize) {
        let (outputs, inputs) = (tensor.rows(), tensor.columns());
        let part = BlockPart {
            outputs,
            stored: stored(tensor.dtype).unwrap(),
            row: Box::new(|row, into| block_row(tensor, row, into)),
        };
        let bias: Vec<f32> = (0..outputs).map(|output| output as f32 * 0.01).collect();
        let team = Team::new(2);
        let linear = Linear::pack_blocks(&team, isa, &[part], inputs, &bias).unwrap();
        let mut from = vec![0.0; rows * padded(inputs)];
        for (at, value) in from.iter_mut().enumerate() {
            let mixed = (at.wrapping_mul(2_654_435_761) >> 7) % 2000;
            *value = mixed as f32 / 1000.0 - 0.9;
        }
        let mut to = vec![0.0; rows * padded(outputs)];
        linear.apply(isa, rows, &mut from, &mut to);
        let mut weights = vec![0.0; inputs];
        for output in 0..outputs {
            tensor.row_f32(output, &mut weights).unwrap();
            for row in 0..rows {
                let from = &from[row * padded(inputs)..][..inputs];
                let exact: f32 = from.iter().zip(&weights).map(|(a, b)| a * b).sum();
                let magnitude: f32 = weights.iter().map(|weight| weight.abs()).sum();
                let largest = weights
                    .iter()
                    .fold(0.0_f32, |most, weight| most.max(weight.abs()));
                // Activations reach 1.1, in steps of 1/256 of 1/127 of it (a little more where the
                // fine byte is clamped). Scales that are products are rounded to half precision,
                // other weights to 8 bits.
                let mut bound = magnitude * 1.1 / (254.0 * 200.0) + 1e-4;
                if !matches!(tensor.dtype, Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q8_0) {
                    bound += inputs as f32 * 1.1 * largest / 254.0 / 4.0;
                }
                let got = to[row * padded(outputs) + output];
                let difference = (got - exact - bias[output]).abs();
                assert!(
                    difference <= bound,
                    "{isa} {} {difference} {bound}",
                    tensor.dtype
                );
            }
        }
    }
}
