//! Tiles against the plain definition and against VNNI: on AMX, or on the emulator's tiles.

use std::ops::Range;

use crate::kernels::amx::emulator;
use crate::kernels::isa::{Isa, Level};
use crate::kernels::linear::tests::{Dense, number};
use crate::kernels::linear::{Format, InputScratch, Linear, Panels};
use crate::kernels::rows::{Rows, padded};
use crate::kernels::team::Team;

const ROWS: [usize; 7] = [1, 5, 16, 17, 32, 33, 45];

/// Rows around the ones that are multiplied.
const AROUND: usize = 2;

/// The vector part of the kernels needs the level below, by itself.
fn vnni() -> Option<Isa> {
    let below = Isa::assumed(Level::Vnni);
    Isa::available().contains(&below).then_some(below)
}

fn addresses<T>(start: *const T, length: usize) -> Range<usize> {
    start as usize..start as usize + length * size_of::<T>()
}

/// What tiles may touch: these rows of activations and outputs, the weights, and starts or bias.
fn lend(linear: &Linear, words: Rows<'_, f32>, out: Rows<'_, f32>, rows: Range<usize>) {
    let part = |matrix: Rows<'_, f32>| {
        let length = rows.len() * matrix.stride();
        addresses(matrix.at(rows.start, 0).cast_const(), length)
    };
    let (weights, start) = match &linear.panels {
        Panels::I8 {
            weights, starts, ..
        } => (
            addresses(weights.as_ptr(), weights.len()),
            addresses(starts.as_ptr(), starts.len()),
        ),
        Panels::Bf16(weights) => (
            addresses(weights.as_ptr(), weights.len()),
            addresses(linear.bias.as_ptr(), linear.bias.len()),
        ),
        _ => (0..0, 0..0),
    };
    emulator::lend([
        (part(words), false),
        (weights, false),
        (start, false),
        (part(out), true),
    ]);
}

/// All outputs of the rows `x`, in the middle of larger matrices of garbage, whose rest must stay.
fn outputs(isa: Isa, linear: &Linear, x: &[f32]) -> Vec<f32> {
    let (inputs, width) = (linear.in_features, padded(linear.out_features));
    let rows = x.len() / inputs;
    let (all, middle) = (rows + 2 * AROUND, AROUND..AROUND + rows);
    let garbage = f32::from_bits(u32::MAX);
    let mut from = vec![0.0; all * padded(inputs)];
    for (row, x) in x.chunks(inputs).enumerate() {
        from[(AROUND + row) * padded(inputs)..][..inputs].copy_from_slice(x);
    }
    let mut scratch = InputScratch::new(all, inputs);
    scratch.words.fill(garbage);
    let mut out = vec![garbage; all * width];
    let from = Rows::new(&mut from, all, padded(inputs));
    let lent = Rows::new(&mut out, all, width);
    // SAFETY: one thread, memory of its own.
    unsafe {
        let input = linear.prepare(isa, from, middle.clone(), scratch.lend(all, inputs));
        lend(linear, input.words, lent, middle.clone());
        linear.multiply(isa, input, middle.clone(), 0..linear.num_panels(), lent);
    }
    for (row, values) in out.chunks(width).enumerate() {
        let written = values.iter().all(|value| !value.is_nan());
        let kept = values.iter().all(|value| value.to_bits() == u32::MAX);
        assert!(
            if middle.contains(&row) { written } else { kept },
            "row {row}"
        );
    }
    out[middle.start * width..middle.end * width].to_vec()
}

/// A layer, its weights, its bias.
fn layer(inputs: usize, width: usize, format: Format) -> (Linear, Vec<f32>, Vec<f32>) {
    let weights: Vec<_> = (0..inputs * width).map(|i| number(i) * 0.1).collect();
    let bias: Vec<_> = (0..width).map(|i| number(i + 77)).collect();
    let source = Dense {
        weights: &weights,
        inputs,
    };
    let linear = Linear::pack(&Team::new(1), &source, &bias, format).unwrap();
    (linear, weights, bias)
}

fn each_shape(mut check: impl FnMut(usize, usize)) {
    for inputs in [1, 5, 64, 65, 130, 384] {
        for width in [1, 33, 64, 96, 200] {
            check(inputs, width);
        }
    }
    check(1536, 40);
}

#[test]
fn bytes_on_tiles_are_bit_for_bit_those_of_vnni() {
    let Some(vnni) = vnni() else { return };
    let emulated = emulator::install();
    each_shape(|inputs, width| {
        let (linear, ..) = layer(inputs, width, Format::I8);
        for rows in ROWS {
            let x: Vec<_> = (0..rows * inputs).map(|i| number(i + 991)).collect();
            let before = emulator::executed();
            let tiles = outputs(Isa::assumed(Level::Amx), &linear, &x);
            assert_eq!(emulator::executed() > before, emulated);
            let expected = outputs(vnni, &linear, &x);
            let equal = tiles
                .iter()
                .zip(&expected)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(equal, "{rows}x{inputs}x{width}");
        }
    });
}

#[test]
fn bf16_on_tiles_agrees_with_the_definition() {
    if vnni().is_none() {
        return;
    }
    let emulated = emulator::install();
    let rounded = |value: &f32| half::bf16::from_f32(*value).to_f64();
    each_shape(|inputs, width| {
        let (linear, weights, bias) = layer(inputs, width, Format::Bf16);
        let weights: Vec<_> = weights.iter().map(rounded).collect();
        for rows in ROWS {
            let x: Vec<_> = (0..rows * inputs).map(|i| number(i + 991)).collect();
            let before = emulator::executed();
            let tiles = outputs(Isa::assumed(Level::Amx), &linear, &x);
            assert_eq!(emulator::executed() > before, emulated);
            for (row, x) in x.chunks(inputs).enumerate() {
                let x: Vec<_> = x.iter().map(rounded).collect();
                for output in 0..width {
                    let own = &weights[output * inputs..][..inputs];
                    let (mut expected, mut magnitude) = (f64::from(bias[output]), 1.0);
                    for (x, weight) in x.iter().zip(own) {
                        expected += x * weight;
                        magnitude += (x * weight).abs();
                    }
                    let got = f64::from(tiles[row * padded(width) + output]);
                    // The products are exact; f32 sums err by less than ε·Σ|terms| here.
                    assert!(
                        (got - expected).abs() <= 2e-6 * magnitude,
                        "{rows}x{inputs}x{width}: {got} {expected}"
                    );
                }
            }
        }
    });
}

#[test]
fn parts_of_panels_do_not_touch_the_rest() {
    if vnni().is_none() {
        return;
    }
    emulator::install();
    for format in [Format::I8, Format::Bf16] {
        let (linear, ..) = layer(64, 96, format);
        let mut from: Vec<_> = (0..40 * 64).map(number).collect();
        let mut out = vec![7.0; 40 * 96];
        let mut scratch = InputScratch::new(40, 64);
        let isa = Isa::assumed(Level::Amx);
        let from = Rows::new(&mut from, 40, 64);
        let lent = Rows::new(&mut out, 40, 96);
        // SAFETY: one thread, memory of its own.
        unsafe {
            let input = linear.prepare(isa, from, 2..39, scratch.lend(40, 64));
            lend(&linear, input.words, lent, 2..39);
            linear.multiply(isa, input, 2..39, 1..2, lent);
        }
        for (i, value) in out.iter().enumerate() {
            let inside = (2..39).contains(&(i / 96)) && (32..64).contains(&(i % 96));
            assert_eq!(*value == 7.0, !inside, "{format:?} at {i}");
        }
    }
}
