//! Every format on every instruction set against the plain definition.

use super::*;
use crate::Result;
use crate::kernels::rows::padded;
use crate::kernels::team::Team;

pub(in crate::kernels) struct Dense<'a> {
    pub(in crate::kernels) weights: &'a [f32],
    pub(in crate::kernels) inputs: usize,
}

impl WeightSource for Dense<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.weights.len() / self.inputs, self.inputs)
    }
    fn row(&self, row: usize, into: &mut [f32]) -> Result<()> {
        into.copy_from_slice(&self.weights[row * self.inputs..][..self.inputs]);
        Ok(())
    }
}

pub(in crate::kernels) fn number(seed: usize) -> f32 {
    let mixed = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 4001;
    (mixed as f32 - 2000.0) / 1500.0
}

/// The outputs of `rows` rows, without padding.
fn outputs(isa: Isa, linear: &Linear, x: &[f32], rows: usize) -> Vec<f32> {
    let (inputs, outputs) = (linear.in_features(), linear.out_features());
    let mut from = vec![0.0; rows * padded(inputs)];
    for row in 0..rows {
        from[row * padded(inputs)..][..inputs].copy_from_slice(&x[row * inputs..][..inputs]);
    }
    let mut scratch = InputScratch::new(rows, inputs);
    let mut out = vec![f32::NAN; rows * padded(outputs)];
    let from = Rows::new(&mut from, rows, padded(inputs));
    let lent = Rows::new(&mut out, rows, padded(outputs));
    // SAFETY: one thread, memory of its own.
    unsafe {
        let input = linear.prepare(isa, from, 0..rows, scratch.lend(rows, inputs));
        linear.multiply(isa, input, 0..rows, 0..linear.num_panels(), lent);
    }
    (0..rows)
        .flat_map(|row| out[row * padded(outputs)..][..outputs].to_vec())
        .collect()
}

#[test]
fn every_format_agrees_with_the_definition_on_every_isa() {
    let team = Team::new(2);
    for (inputs, width) in [(1, 1), (5, 33), (64, 48), (96, 64), (130, 200), (1536, 40)] {
        let weights: Vec<_> = (0..inputs * width).map(|i| number(i) * 0.1).collect();
        let bias: Vec<_> = (0..width).map(|i| number(i + 77)).collect();
        let source = Dense {
            weights: &weights,
            inputs,
        };
        for (format, relative) in [
            (Format::F32, 2e-6),
            (Format::I16, 1.0e-3),
            (Format::I8, 1.2e-2),
        ] {
            let linear = Linear::pack(&team, &source, &bias, format).unwrap();
            for rows in [1, 2, 3, 5, 6, 7, 12, 13, 27] {
                let x: Vec<_> = (0..rows * inputs).map(|i| number(i + 991)).collect();
                let results: Vec<_> = Isa::available()
                    .into_iter()
                    .map(|isa| outputs(isa, &linear, &x, rows))
                    .collect();
                for row in 0..rows {
                    for output in 0..width {
                        let terms = (0..inputs).map(|i| {
                            f64::from(x[row * inputs + i]) * f64::from(weights[output * inputs + i])
                        });
                        let expected = terms.clone().sum::<f64>() + f64::from(bias[output]);
                        // Rounding either factor by ε·max moves a sum of n random terms by about √n;
                        // f32 sums err by less than ε·Σ|terms| here.
                        let bound = match format {
                            Format::F32 => relative * terms.map(f64::abs).sum::<f64>() + 1e-6,
                            _ => relative * 0.2 * (inputs as f64).sqrt() + 1e-5,
                        };
                        for (isa, result) in Isa::available().iter().zip(&results) {
                            let got = f64::from(result[row * width + output]);
                            assert!(
                                (got - expected).abs() <= bound,
                                "{format:?} {isa} {inputs}x{width}: {got} {expected}"
                            );
                        }
                    }
                }
                if format != Format::F32 {
                    // Integer sums are exact; what differs is one rounding of the final scale.
                    for result in &results {
                        for (a, b) in result.iter().zip(&results[0]) {
                            assert!(
                                (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                                "{format:?} by ISA"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn sixteen_bit_sums_cannot_overflow() {
    let team = Team::new(1);
    let inputs = 4096;
    let weights = vec![1.0; inputs * 32];
    let linear = Linear::pack(
        &team,
        &Dense {
            weights: &weights,
            inputs,
        },
        &[],
        Format::I16,
    )
    .unwrap();
    for isa in Isa::available() {
        let result = outputs(isa, &linear, &vec![3.0; inputs], 1);
        for value in result {
            assert!((value - 3.0 * 4096.0).abs() < 12.0, "{isa}: {value}");
        }
    }
}

#[test]
fn parts_of_rows_and_panels_do_not_touch_the_rest() {
    let team = Team::new(1);
    let weights: Vec<_> = (0..64 * 96).map(number).collect();
    let linear = Linear::pack(
        &team,
        &Dense {
            weights: &weights,
            inputs: 64,
        },
        &[],
        Format::F32,
    )
    .unwrap();
    let mut from: Vec<_> = (0..10 * 64).map(number).collect();
    let mut out = vec![7.0; 10 * 96];
    let mut scratch = InputScratch::new(10, 64);
    for isa in Isa::available() {
        out.fill(7.0);
        let from = Rows::new(&mut from, 10, 64);
        let lent = Rows::new(&mut out, 10, 96);
        // SAFETY: one thread, memory of its own.
        unsafe {
            let input = linear.prepare(isa, from, 2..5, scratch.lend(10, 64));
            linear.multiply(isa, input, 2..5, 1..2, lent);
        }
        for (i, value) in out.iter().enumerate() {
            let inside = (2..5).contains(&(i / 96)) && (32..64).contains(&(i % 96));
            assert_eq!(*value == 7.0, !inside, "{isa} at {i}");
        }
    }
}

#[test]
fn bf16_rounds_to_nearest_even() {
    for bits in (0..=u32::MAX)
        .step_by(8191)
        .chain([0x7F80_0000, 0xFFFF_FFFF])
    {
        for bits in [bits, bits & 0xFFFF_0000 | 0x8000] {
            let value = f32::from_bits(bits);
            let got = quantize::to_bf16(value);
            assert_eq!(got, half::bf16::from_f32(value).to_bits(), "{bits:#x}");
        }
    }
}
