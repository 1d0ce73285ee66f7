//! Kernels on tiles against their plain definitions; on CPUs without tiles there are none to test.

use super::attention::{self, Context, SLACK, TileAttention};
use super::pack::{self, Source};
use super::product::{Product, SCRATCH, Target};
use super::*;
use crate::kernels::activation::Activation;
use crate::kernels::attention::{Heads, Reach};
use crate::kernels::isa::Isa;
use crate::kernels::linear::tests::{Dense, number};
use crate::kernels::linear::{Format, Linear, PART};
use crate::kernels::rows::padded;
use crate::kernels::team::Team;

fn tiles() -> bool {
    Isa::available().into_iter().any(Isa::has_tiles)
}

fn from_bf16(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

/// What a layer gives, in f64, rows of `outputs` numbers.
fn definition(x: &[f32], weights: &[f32], bias: &[f32], inputs: usize) -> Vec<f64> {
    x.chunks(inputs)
        .flat_map(|row| {
            weights.chunks(inputs).zip(bias).map(|(weights, bias)| {
                let terms = row.iter().zip(weights);
                let sum: f64 = terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                sum + f64::from(*bias)
            })
        })
        .collect()
}

fn gelu(x: f64) -> f64 {
    // Φ by Simpson's rule.
    let h = x / 400.0;
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let part = |i: i32| {
        let t = f64::from(i) * h;
        h / 6.0 * (density(t) + 4.0 * density(t + h / 2.0) + density(t + h))
    };
    x * (0.5 + (0..400).map(part).sum::<f64>())
}

struct Layer {
    linear: Linear,
    weights: Vec<f32>,
    bias: Vec<f32>,
    format: Format,
}

impl Layer {
    fn new(inputs: usize, outputs: usize, format: Format) -> Self {
        let scale = 1.0 / (inputs as f32).sqrt();
        let weights: Vec<_> = (0..inputs * outputs).map(|i| number(i) * scale).collect();
        let bias: Vec<_> = (0..outputs).map(|i| number(i + 77)).collect();
        let source = Dense {
            weights: &weights,
            inputs,
        };
        let linear = Linear::pack(&Team::new(2), &source, &bias, format).unwrap();
        Self {
            linear,
            weights,
            bias,
            format,
        }
    }

    /// An operand of the rows `x`, whose columns are inputs of the layer, and its scales.
    fn operand<'a>(
        &self,
        x: &'a mut [f32],
        columns: usize,
        memory: &'a mut Buffer<u16>,
        scales: &'a mut Buffer<f32>,
    ) -> (TileRows<'a>, Rows<'a, f32>) {
        let rows = x.len() / columns;
        memory.reserve(TileRows::len(rows, columns.div_ceil(HALVES)));
        scales.reserve(2 * whole_tiles(rows));
        let to = TileRows::new(memory, rows, columns.div_ceil(HALVES));
        let scales = Rows::new(scales, whole_tiles(rows), 2);
        let from = Rows::new(x, rows, columns);
        // SAFETY: the CPU has tiles; memory of this thread alone.
        unsafe {
            if self.format == Format::I8 {
                pack::to_bytes(Source::Floats(from), 0..rows, columns, to, scales);
            } else {
                pack::to_bf16(from, 0..rows, columns, to);
            }
        }
        (to, scales)
    }
}

/// How far a result of such a layer may be from the definition: rounding of both factors, for sums of
/// about one.
fn tolerance(format: Format) -> f64 {
    if format == Format::I8 { 0.05 } else { 0.02 }
}

#[test]
fn products_agree_with_the_definition() {
    if !tiles() {
        return;
    }
    for format in [Format::Bf16, Format::I8] {
        for (inputs, outputs) in [(32, 32), (96, 64), (384, 96), (1536, 64)] {
            let layer = Layer::new(inputs, outputs, format);
            for rows in [1, 16, 17, 33, 64, 400] {
                let mut x: Vec<_> = (0..rows * inputs).map(|i| number(i + 991)).collect();
                let expected = definition(&x, &layer.weights, &layer.bias, inputs);
                let (mut memory, mut scales) = (Buffer::zeroed(0), Buffer::zeroed(0));
                let (from, scales) = layer.operand(&mut x, inputs, &mut memory, &mut scales);
                let mut out = vec![1.0; whole_tiles(rows) * outputs];
                let mut scratch = vec![f32::NAN; SCRATCH];
                let product = Product {
                    layer: &layer.linear,
                    from,
                    scales,
                    to: Target::Floats {
                        to: Rows::new(&mut out, whole_tiles(rows), outputs),
                        add: true,
                    },
                    steps: Product::all_steps(&layer.linear),
                    part: None,
                    origin: 0,
                };
                // SAFETY: the CPU has tiles; memory of this thread alone.
                unsafe { product.run(0..rows.div_ceil(TILE), 0..outputs / 32, &mut scratch) };
                for (got, want) in out.iter().zip(&expected) {
                    let error = (f64::from(*got) - 1.0 - want).abs();
                    assert!(
                        error < tolerance(format),
                        "{format:?} {rows}x{inputs}x{outputs}: {got} {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn parts_of_the_inputs_add_up_to_the_whole() {
    if !tiles() {
        return;
    }
    for format in [Format::Bf16, Format::I8] {
        let (inputs, outputs, rows) = (2 * PART + 64, 64, 40);
        let layer = Layer::new(inputs, outputs, format);
        let x: Vec<_> = (0..rows * inputs).map(|i| number(i + 5)).collect();
        let expected = definition(&x, &layer.weights, &layer.bias, inputs);
        let mut out = vec![0.0; whole_tiles(rows) * outputs];
        let inputs_a_step = if format == Format::I8 { 64 } else { 32 };
        for (part, first) in (0..inputs).step_by(PART).enumerate() {
            let columns = PART.min(inputs - first);
            let mut x: Vec<_> = x
                .chunks(inputs)
                .flat_map(|row| row[first..first + columns].to_vec())
                .collect();
            let (mut memory, mut scales) = (Buffer::zeroed(0), Buffer::zeroed(0));
            let (from, scales) = layer.operand(&mut x, columns, &mut memory, &mut scales);
            let product = Product {
                layer: &layer.linear,
                from,
                scales,
                to: Target::Floats {
                    to: Rows::new(&mut out, whole_tiles(rows), outputs),
                    add: part > 0,
                },
                steps: first / inputs_a_step..(first + columns).div_ceil(inputs_a_step),
                part: (format == Format::I8).then_some(part),
                origin: 0,
            };
            let mut scratch = vec![f32::NAN; SCRATCH];
            // SAFETY: the CPU has tiles; memory of this thread alone.
            unsafe { product.run(0..rows.div_ceil(TILE), 0..outputs / 32, &mut scratch) };
        }
        for (got, want) in out.iter().zip(&expected) {
            assert!((f64::from(*got) - want).abs() < tolerance(format));
        }
    }
}

#[test]
fn activations_are_those_of_the_definition_plain_and_gated() {
    if !tiles() {
        return;
    }
    let (inputs, width, rows) = (64, 96, 50);
    for format in [Format::Bf16, Format::I8] {
        for (activation, gated) in [
            (None, false),
            (Some(Activation::Gelu), false),
            (Some(Activation::Gelu), true),
            (Some(Activation::Relu), true),
        ] {
            let outputs = if gated { 2 * width } else { width };
            let layer = Layer::new(inputs, outputs, format);
            let mut x: Vec<_> = (0..rows * inputs).map(|i| 2.0 * number(i + 3)).collect();
            let plain = definition(&x, &layer.weights, &layer.bias, inputs);
            let (mut memory, mut scales) = (Buffer::zeroed(0), Buffer::zeroed(0));
            let (from, scales) = layer.operand(&mut x, inputs, &mut memory, &mut scales);
            let mut as_rows = vec![0_u16; whole_tiles(rows) * width];
            let mut as_tiles = Buffer::zeroed(TileRows::len(rows, width / HALVES));
            let in_tiles = TileRows::new(&mut as_tiles, rows, width / HALVES);
            let in_rows = Rows::new(&mut as_rows, whole_tiles(rows), width);
            for to in [Halves::Rows(in_rows), Halves::Tiles(in_tiles)] {
                let product = Product {
                    layer: &layer.linear,
                    from,
                    scales,
                    to: Target::Halves {
                        to,
                        activation: activation.map(|activation| (activation, gated)),
                    },
                    steps: Product::all_steps(&layer.linear),
                    part: None,
                    origin: 0,
                };
                let mut scratch = vec![f32::NAN; SCRATCH];
                let panels = 0..product.num_panels();
                // SAFETY: the CPU has tiles; memory of this thread alone.
                unsafe { product.run(0..rows.div_ceil(TILE), panels, &mut scratch) };
            }
            for row in 0..rows {
                for column in 0..width {
                    let value = plain[row * outputs + column];
                    let mut want = match activation {
                        Some(Activation::Gelu) => gelu(value),
                        Some(_) => value.max(0.0),
                        None => value,
                    };
                    if gated {
                        want *= plain[row * outputs + width + column];
                    }
                    let at = in_tiles.at(row, column / HALVES).cast::<u16>();
                    // SAFETY: inside the row of the tile.
                    let tile = unsafe { at.add(column % HALVES).read() };
                    // SAFETY: this thread alone.
                    let got = unsafe { in_rows.row(row) }[column];
                    assert_eq!(tile, got, "the same in rows and in tiles");
                    let error = (f64::from(from_bf16(got)) - want).abs();
                    let bound = 4.0 * tolerance(format) * (1.0 + want.abs());
                    assert!(error < bound, "{format:?} {activation:?} {got} {want}");
                }
            }
        }
    }
}

/// softmax(scale · q kᵀ + bias) v in f64 for one query of one head.
fn attended(
    heads: &Heads,
    qkv: &[f32],
    (stride, length): (usize, usize),
    (query, head): (usize, usize),
    bias: Option<(&[f32], usize)>,
) -> Vec<f64> {
    let d = heads.head_dim;
    let kv = head / (heads.num_heads / heads.num_key_value_heads);
    let column = |first: usize, i: usize| first + kv * d + i;
    let keys: Vec<_> = heads.reach.of(query, length).collect();
    let scores: Vec<f64> = keys
        .iter()
        .map(|key| {
            let dot: f64 = (0..d)
                .map(|i| {
                    f64::from(qkv[query * stride + head * d + i])
                        * f64::from(qkv[key * stride + column(heads.key_column(), i)])
                })
                .sum();
            let bias = bias.map_or(0.0, |(bias, span)| {
                f64::from(bias[head * (2 * span - 1) + span - 1 + key - query])
            });
            dot * f64::from(heads.scale) + bias
        })
        .collect();
    let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<_> = scores.iter().map(|score| (score - maximum).exp()).collect();
    let sum: f64 = weights.iter().sum();
    (0..d)
        .map(|i| {
            let values = keys.iter().zip(&weights);
            let terms = values.map(|(key, weight)| {
                weight * f64::from(qkv[key * stride + column(heads.value_column(), i)])
            });
            terms.sum::<f64>() / sum
        })
        .collect()
}

#[test]
fn attention_agrees_with_the_definition() {
    if !tiles() {
        return;
    }
    let causal = Reach {
        before: usize::MAX,
        after: 0,
    };
    let window = Reach {
        before: 40,
        after: 9,
    };
    for (length, head_dim, with_bias) in [
        (1, 16, false),
        (16, 32, false),
        (17, 32, true),
        (33, 48, false),
        (129, 64, true),
        (300, 32, false),
        (515, 16, false),
    ] {
        for reach in [Reach::ALL, causal, window] {
            let heads = Heads {
                num_heads: 4,
                num_key_value_heads: 2,
                head_dim,
                scale: 0.3,
                reach,
            };
            check(&heads, length, with_bias);
        }
    }
}

fn check(heads: &Heads, length: usize, with_bias: bool) {
    let stride = heads.value_column() + padded(2 * heads.head_dim);
    let halves: Vec<u16> = (0..(length + SLACK) * stride)
        .map(|i| crate::kernels::linear::to_bf16(number(i)))
        .collect();
    let qkv: Vec<f32> = halves.iter().map(|value| from_bf16(*value)).collect();
    let span = 520;
    let table: Vec<f32> = (0..4 * (2 * span - 1)).map(|i| number(i + 13)).collect();
    let bias = with_bias.then_some((&table[..], span));
    let width = padded(4 * heads.head_dim);
    let mut memory = halves;
    let mut out = vec![0.0; length * width];
    let len = attention::packed_len(heads, length);
    let mut packed = Buffer::<u16>::zeroed(2 * len);
    let packed = Rows::new(&mut packed, 2, len);
    let mut scratch = vec![f32::NAN; attention::scratch_len(heads)];
    let attention = TileAttention {
        heads: *heads,
        qkv: Rows::new(&mut memory, length + SLACK, stride),
        first: 0,
        length,
        bias,
        out: Context::Floats(Rows::new(&mut out, length, width)),
    };
    // SAFETY: the CPU has tiles; memory of this thread alone.
    unsafe {
        let heads: Vec<_> = (0..4)
            .map(|head| (head, attention.place(packed, head / 2)))
            .collect();
        (0..2).for_each(|head| attention.pack(head, attention.place(packed, head)));
        let tiles = attention::configure();
        for heads in heads.chunks(attention.heads_together()) {
            for task in 0..attention.tasks_a_head() {
                attention.attend(&tiles, task, heads, &mut scratch);
            }
        }
    }
    for query in 0..length {
        for head in 0..4 {
            let want = attended(heads, &qkv, (stride, length), (query, head), bias);
            for (i, want) in want.iter().enumerate() {
                let got = f64::from(out[query * width + head * heads.head_dim + i]);
                assert!(
                    (got - want).abs() < 6e-3,
                    "{length} {heads:?} {query} {head}: {got} {want}"
                );
            }
        }
    }
}
