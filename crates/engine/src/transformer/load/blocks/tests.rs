//! Every block type against its dequantised rows, on every instruction set.

use super::*;
use crate::kernels::isa::Isa;
use crate::kernels::linear::{BlockPart, InputScratch, Linear, to_bf16};
use crate::kernels::rows::{Rows, padded};
use crate::kernels::team::Team;

/// The types, and where in a block of each its scales in half precision lie.
const TYPES: [(Dtype, &[usize]); 13] = [
    (Dtype::Q4_0, &[0]),
    (Dtype::Q4_1, &[0, 2]),
    (Dtype::Q5_0, &[0]),
    (Dtype::Q5_1, &[0, 2]),
    (Dtype::Q8_0, &[0]),
    (Dtype::Q2K, &[80, 82]),
    (Dtype::Q3K, &[108]),
    (Dtype::Q4K, &[0, 2]),
    (Dtype::Q5K, &[0, 2]),
    (Dtype::Q6K, &[208]),
    (Dtype::IQ4NL, &[0]),
    (Dtype::IQ4XS, &[0]),
    // Rounded to 8 bits.
    (Dtype::TQ2_0, &[64]),
];

const INPUTS: usize = 512;

/// Blocks of arbitrary bits with sensible scales.
fn bytes(dtype: Dtype, outputs: usize, scales: &[usize]) -> Vec<u8> {
    let length = dtype.size_of(INPUTS).unwrap() * outputs;
    let byte = |at: usize| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u8;
    let mut bytes: Vec<u8> = (0..length).map(byte).collect();
    for (index, block) in bytes.chunks_exact_mut(dtype.block_bytes()).enumerate() {
        for (kind, at) in scales.iter().enumerate() {
            let value = 0.001 * (1 + index % 7) as f32 * if kind == 0 { 1.0 } else { -0.4 };
            block[*at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    }
    bytes
}

fn for_each_type(outputs: usize, check: impl Fn(&Tensor<'_>)) {
    for (dtype, scales) in TYPES {
        let bytes = bytes(dtype, outputs, scales);
        check(&Tensor {
            name: dtype.name(),
            dtype,
            shape: &[outputs, INPUTS],
            bytes: &bytes,
        });
    }
}

fn pack(tensor: &Tensor<'_>, isa: Isa, bias: &[f32]) -> Linear {
    let part = BlockPart {
        outputs: tensor.rows(),
        stored: stored(tensor.dtype).unwrap(),
        row: Box::new(|row, into| block_row(tensor, row, into)),
    };
    Linear::pack_blocks(&Team::new(2), isa, &[part], INPUTS, bias).unwrap()
}

/// Activations of which one is large, as in the first tokens of real models.
fn activations(rows: usize) -> Vec<f32> {
    let number = |at: usize| {
        let mixed = (at.wrapping_mul(2_654_435_761) >> 7) % 2000;
        let scale = if at % INPUTS == 77 { 500.0 } else { 1.0 };
        scale * (mixed as f32 / 1000.0 - 0.9)
    };
    (0..rows * INPUTS).map(number).collect()
}

/// The integers stand for the numbers of the plain definition.
#[test]
fn rows_as_integers_are_the_dequantised_rows() {
    for_each_type(3, |tensor| {
        let stored = stored(tensor.dtype).unwrap();
        let groups = if stored.by_halves { 2 } else { 1 };
        let mut into = BlockRow {
            quants: vec![0; INPUTS],
            scales: vec![0.0; INPUTS / BLOCK * groups],
            minima: vec![0.0; INPUTS / BLOCK * groups],
        };
        let mut values = vec![0.0; INPUTS];
        for row in 0..tensor.rows() {
            block_row(tensor, row, &mut into).unwrap();
            tensor.row_f32(row, &mut values).unwrap();
            for (at, value) in values.iter().enumerate() {
                let quant = into.quants[at];
                let integer = match stored.bits {
                    Bits::Eight => f32::from(quant.cast_signed()),
                    Bits::Level => f32::from(crate::kernels::linear::LEVELS[usize::from(quant)]),
                    _ => f32::from(quant),
                };
                let group = at / (BLOCK / groups);
                let scale = into.scales[group];
                let got = match stored.minimum {
                    Minimum::Stored => scale * integer + into.minima[group],
                    Minimum::Scales(factor) => scale * (integer + f32::from(factor)),
                };
                let bound = if tensor.dtype == Dtype::TQ2_0 {
                    1e-4
                } else {
                    1e-6
                };
                assert!(
                    (got - value).abs() <= bound,
                    "{} {at}: {got} {value}",
                    tensor.dtype
                );
            }
        }
    });
}

/// Products with a few rows have two-byte activations: what is left is their rounding, and that of
/// the scales to half precision.
#[test]
fn products_of_few_rows_agree_with_dequantised_rows() {
    for_each_type(45, |tensor| {
        let outputs = tensor.rows();
        let bias: Vec<f32> = (0..outputs).map(|output| output as f32 * 0.01).collect();
        let weights = tensor.to_f32().unwrap();
        for isa in Isa::available() {
            let linear = pack(tensor, isa, &bias);
            for rows in [1, 2, 5, 13] {
                let mut from = activations(rows);
                let mut to = vec![0.0; rows * padded(outputs)];
                linear.apply(isa, rows, &mut from.clone(), &mut to);
                for row in 0..rows {
                    let from = &from[row * INPUTS..][..INPUTS];
                    for (output, weights) in weights.chunks_exact(INPUTS).enumerate() {
                        let exact = product(from, weights) + f64::from(bias[output]);
                        let got = f64::from(to[row * padded(outputs) + output]);
                        let bound = rounding(from, weights);
                        assert!(
                            (got - exact).abs() <= bound,
                            "{isa} {} {rows} rows: {got} {exact} {bound}",
                            tensor.dtype
                        );
                    }
                }
                // Rows alone have the same results, to the bit.
                for row in 0..rows {
                    let mut alone = vec![0.0; padded(outputs)];
                    linear.apply(isa, 1, &mut from[row * INPUTS..][..INPUTS], &mut alone);
                    assert_eq!(alone, to[row * padded(outputs)..][..padded(outputs)]);
                }
            }
        }
    });
}

fn product(from: &[f32], weights: &[f32]) -> f64 {
    let terms = from.iter().zip(weights);
    terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// What rounding may move a product of blocks: activations by a step of 1/256 of 1/127 of their block's
/// largest (a little more where the fine byte is clamped), scales by 2⁻¹¹ of what they weigh, and
/// where the weights are rounded to 8 bits these by half a step.
fn rounding(from: &[f32], weights: &[f32]) -> f64 {
    let magnitude = |values: &[f32]| values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let blocks = from.chunks_exact(BLOCK).zip(weights.chunks_exact(BLOCK));
    let each = blocks.map(|(from, weights)| {
        let (step, largest) = (magnitude(from) / (127.0 * 200.0), magnitude(weights));
        let sum: f32 = weights.iter().map(|weight| weight.abs()).sum();
        let terms: f32 = from.iter().map(|x| x.abs()).sum();
        // A minimum may be larger than what it leaves of a weight.
        f64::from(step * (sum + BLOCK as f32 * largest) + terms * largest * 4.0 / 2048.0)
    });
    each.sum::<f64>() + 1e-4
}

/// Prompts: on tiles weights and activations rounded to bf16, elsewhere neither; sums in `f32`.
#[test]
fn products_of_prompts_agree_with_unpacked_rows() {
    let unpacking = Isa::available().into_iter();
    for isa in unpacking.filter(|isa| isa.has_tiles() || !isa.has_fast_8_bit()) {
        prompts_agree(isa);
    }
}

fn prompts_agree(isa: Isa) {
    for_each_type(70, |tensor| {
        let outputs = tensor.rows();
        let bias: Vec<f32> = (0..outputs).map(|output| output as f32 * 0.01).collect();
        let linear = pack(tensor, isa, &bias);
        assert!(linear.unpacks(isa));
        let weights = tensor.to_f32().unwrap();
        let rounded = |x: &f32| match isa.has_tiles() {
            true => f32::from_bits(u32::from(to_bf16(*x)) << 16),
            false => *x,
        };
        for rows in [1, 15, 16, 17, 33, 70] {
            let mut from = activations(rows);
            let to = prompt(&linear, isa, rows, &mut from);
            for row in 0..rows {
                let from: Vec<f32> = from[row * INPUTS..][..INPUTS].iter().map(rounded).collect();
                for (output, weights) in weights.chunks_exact(INPUTS).enumerate() {
                    let exact = product(&from, weights) + f64::from(bias[output]);
                    let got = f64::from(to[row * padded(outputs) + output]);
                    // A weight is rounded by 2⁻⁹ of it (by half a step of 8 bits for those of other
                    // types), its scale by 2⁻¹¹ of what may be a larger number than a minimum leaves.
                    let terms = from
                        .iter()
                        .zip(weights.chunks_exact(BLOCK).flat_map(|block| {
                            let largest = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                            std::iter::repeat_n(largest, BLOCK)
                        }));
                    let bound: f64 = terms.map(|(a, b)| f64::from(a.abs() * b) / 300.0).sum();
                    let bound = bound + 1e-4;
                    assert!(
                        (got - exact).abs() <= bound,
                        "{isa} {} {rows} rows: {got} {exact} {bound}",
                        tensor.dtype
                    );
                }
                let alone = prompt(&linear, isa, 1, &mut activations(rows)[row * INPUTS..]);
                assert_eq!(alone, to[row * padded(outputs)..][..padded(outputs)]);
            }
        }
    });
}

fn prompt(linear: &Linear, isa: Isa, rows: usize, from: &mut [f32]) -> Vec<f32> {
    let width = padded(linear.out_features());
    let mut scratch = InputScratch::new(rows, INPUTS);
    let mut to = vec![f32::NAN; rows * width];
    let from = Rows::new(from, rows, INPUTS);
    let lent = Rows::new(&mut to, rows, width);
    let panels = linear.num_panels();
    #[expect(unsafe_code, reason = "one thread, memory of its own")]
    // SAFETY: one thread, memory of its own.
    unsafe {
        let input = linear.prepare_prompt(isa, from, 0..rows, scratch.lend(rows, INPUTS));
        linear.multiply_prompt(isa, input, 0..rows, 0..1, lent);
        linear.multiply_prompt(isa, input, 0..rows, 1..panels, lent);
    }
    to
}
