//! Rows in int8, each in one piece: what a walk through the graph reads.
//!
//! A row is scale · code with codes in [-127, 127], kept with 128 added; so the bits of a kept code
//! are those of the signed one with the first turned. That gives both operands of the instruction
//! that multiplies unsigned by signed bytes, and rows serve as queries as they are.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "VNNI has no safe form: one kernel, over slices whose lengths it checks"
    )
)]

use super::super::Column;

/// Rows are padded to whole registers, with codes of zero.
const REGISTER: usize = 64;

/// Added to codes.
const OFFSET: i32 = 128;

/// Rows in int8 side by side.
#[derive(Debug, Default)]
pub(super) struct ByteRows {
    /// Bytes of a row: its dimensions, padded.
    pub(super) width: usize,
    /// `[rows, width]`
    pub(super) codes: Column<u8>,
    pub(super) scales: Column<f32>,
    /// The sum of the codes of each row, without the offset.
    pub(super) sums: Column<i32>,
}

/// A row, or a query like one.
#[derive(Clone, Copy)]
pub(super) struct ByteRow<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scale: f32,
    pub(super) sum: i32,
}

/// Writes the codes of `vector` to `codes`; returns its scale and the sum of its codes.
pub(super) fn quantise(vector: &[f32], codes: &mut Vec<u8>) -> (f32, i32) {
    let largest = vector
        .iter()
        .fold(0.0f32, |max, value| max.max(value.abs()));
    let scale = largest / 127.0;
    // Below 10⁻³⁵ the inverse would overflow; all codes are zero then.
    let inverse = if scale > 1e-35 { 1.0 / scale } else { 0.0 };
    codes.clear();
    let mut sum = 0;
    codes.extend(vector.iter().map(|value| {
        let code = (value * inverse).round_ties_even() as i32;
        sum += code;
        (code + OFFSET) as u8
    }));
    codes.resize(padded(vector.len()), OFFSET as u8);
    (scale, sum)
}

pub(super) fn padded(dimensions: usize) -> usize {
    dimensions.next_multiple_of(REGISTER)
}

impl ByteRows {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            width: padded(dimensions),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, vector: &[f32], scratch: &mut Vec<u8>) {
        let (scale, sum) = quantise(vector, scratch);
        self.codes.extend(scratch.iter().copied());
        self.scales.extend([scale]);
        self.sums.extend([sum]);
    }

    #[inline]
    pub(super) fn row(&self, row: u32) -> ByteRow<'_> {
        let row = row as usize;
        ByteRow {
            codes: self.codes.get(row * self.width..(row + 1) * self.width),
            scale: self.scales.get(row..row + 1)[0],
            sum: self.sums.get(row..row + 1)[0],
        }
    }

    /// The product of a query and each of `rows`, about.
    #[inline]
    pub(super) fn scores(&self, query: ByteRow<'_>, rows: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        for (index, &row) in rows.iter().enumerate() {
            if let Some(next) = rows.get(index + 2) {
                prefetch(self.row(*next).codes);
            }
            scores.push(product(query, self.row(row)));
        }
    }
}

/// The product of two rows, about.
#[inline]
pub(super) fn product(a: ByteRow<'_>, b: ByteRow<'_>) -> f32 {
    assert_eq!(a.codes.len(), b.codes.len(), "rows of different widths");
    #[cfg(target_arch = "x86_64")]
    if crate::codes::has_vnni() {
        // SAFETY: the CPU has AVX-512 F and VNNI; both rows are as long, in whole registers.
        let sum = unsafe { sum_vnni(a.codes, b.codes) };
        return (sum - OFFSET * a.sum) as f32 * (a.scale * b.scale);
    }
    (sum_plain(a.codes, b.codes) - OFFSET * a.sum) as f32 * (a.scale * b.scale)
}

/// The definition: the sum of signed `a` times unsigned `b`.
fn sum_plain(a: &[u8], b: &[u8]) -> i32 {
    let products = a.iter().zip(b);
    products
        .map(|(&a, &b)| (i32::from(a) - OFFSET) * i32::from(b))
        .sum()
}

/// [`sum_plain`], 64 products an instruction.
///
/// # Safety
///
/// The CPU has AVX-512 F and VNNI; both are as long, in whole registers of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn sum_vnni(a: &[u8], b: &[u8]) -> i32 {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32,
        _mm512_set1_epi32, _mm512_setzero_si512, _mm512_xor_si512,
    };
    let turn = _mm512_set1_epi32(0x8080_8080_u32.cast_signed());
    let mut sums = [_mm512_setzero_si512(); 2];
    for (step, (a, b)) in a
        .chunks_exact(REGISTER)
        .zip(b.chunks_exact(REGISTER))
        .enumerate()
    {
        // SAFETY: both chunks have the 64 bytes of a register.
        let (a, b) = unsafe {
            (
                _mm512_loadu_si512(a.as_ptr().cast::<__m512i>()),
                _mm512_loadu_si512(b.as_ptr().cast::<__m512i>()),
            )
        };
        // Two sums, so that one instruction need not wait for the one before.
        let sum = &mut sums[step % 2];
        *sum = _mm512_dpbusd_epi32(*sum, b, _mm512_xor_si512(a, turn));
    }
    _mm512_reduce_add_epi32(sums[0]) + _mm512_reduce_add_epi32(sums[1])
}

/// Asks for a row before it is needed.
#[inline]
fn prefetch(codes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in codes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, and the address is of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = codes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_those_of_the_vectors_and_of_the_definition() {
        let mut random = Random::new(6);
        for dimensions in [1, 3, 63, 64, 65, 384] {
            let mut rows = ByteRows::new(dimensions);
            let vectors: Vec<Vec<f32>> = (0..9)
                .map(|_| {
                    let values = (0..dimensions).map(|_| random.below(2001) as f32 - 1000.0);
                    let values: Vec<f32> = values.collect();
                    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
                    values.iter().map(|value| value / norm).collect()
                })
                .collect();
            for vector in &vectors {
                rows.push(vector, &mut Vec::new());
            }
            let mut scores = Vec::new();
            rows.scores(rows.row(2), &[0, 1, 2, 3, 8, 2], &mut scores);
            for (score, row) in scores.iter().zip([0, 1, 2, 3, 8, 2]) {
                let pairs = vectors[2].iter().zip(&vectors[row]);
                let exact: f32 = pairs.map(|(a, b)| a * b).sum();
                assert!(
                    (score - exact).abs() < 0.02,
                    "{dimensions}: {score} {exact}"
                );
                let (a, b) = (rows.row(2), rows.row(row as u32));
                let plain = sum_plain(a.codes, b.codes) - OFFSET * a.sum;
                assert_eq!(*score, plain as f32 * (a.scale * b.scale));
            }
        }
    }
}
