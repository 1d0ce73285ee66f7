//! The rows again in int8: a quarter of the bytes, read first to find which rows are worth reading
//! in f32.
//!
//! A row r is kept as scale · code with codes in [-127, 127] and the length of what is lost,
//! `error` = |r - scale · code|; a query likewise. By Cauchy and Schwarz the product of the codes is
//! off by at most error_r · |q| + |r̂| · error_q, so every row has a lower and an upper bound of its
//! score. A row whose upper bound is below the `top_k`-th best lower bound cannot be among the best:
//! the others are scored in f32, and the search stays exact.
//!
//! The layout is that of VNNI: blocks of 16 rows, four dimensions of each side by side, so that one
//! instruction adds 64 products to the sums of 16 rows and no sum crosses lanes.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "VNNI has no safe form: one kernel, over slices whose lengths it checks"
    )
)]

use std::ops::Range;

use crate::rows::Column;

/// Rows of a block: the 32-bit lanes of a register.
pub(crate) const BLOCK: usize = 16;

/// Dimensions that one 32-bit lane takes at a time.
const STEP: usize = 4;

/// Codes are kept with this added, because the instruction multiplies unsigned by signed bytes.
const OFFSET: i32 = 128;

/// Rounding of the bounds themselves, which are sums of a few f32.
const SLACK: f32 = 1e-5;

/// Rows in int8, in step with the f32 rows.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// Steps of a row: its dimensions over [`STEP`], rounded up.
    steps: usize,
    len: usize,
    /// `[blocks, steps, BLOCK, STEP]`
    codes: Column<u8>,
    /// One a row, padded to whole blocks.
    scales: Column<f32>,
    errors: Column<f32>,
    /// The codes of the row that is being packed.
    scratch: Vec<f32>,
}

/// A query in int8.
#[derive(Debug)]
pub(crate) struct QueryCodes {
    /// `[steps]`, four codes each.
    codes: Vec<i32>,
    scale: f32,
    error: f32,
    norm: f32,
    /// What the rows' offset adds to every sum.
    correction: i32,
}

/// Lower and upper bounds of the scores of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) lower: [f32; BLOCK],
    pub(crate) upper: [f32; BLOCK],
}

/// Added and taken away again, this rounds an f32 below 2²² to the nearest whole number: the
/// compiler makes vectors of it, which it does not of `f32::round`.
const ROUNDING: f32 = 12_582_912.0;

/// Writes a vector's codes as numbers to `codes`; returns its scale and the length of what is lost.
fn quantise(vector: &[f32], codes: &mut Vec<f32>) -> (f32, f32) {
    let largest = vector
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = largest / 127.0;
    // Below 10⁻³⁵ the inverse would overflow; codes of zero with all lost hold as well.
    let inverse = if scale > 1e-35 { 1.0 / scale } else { 0.0 };
    codes.clear();
    codes.extend(
        vector
            .iter()
            .map(|value| (value * inverse + ROUNDING) - ROUNDING),
    );
    let lost = vector.iter().zip(&*codes).map(|(value, code)| {
        let lost = value - code * scale;
        lost * lost
    });
    // 2⁻¹⁰ more for the rounding of the sum.
    (scale, lost.sum::<f32>().sqrt() * (1.0 + 1.0 / 1024.0))
}

impl Codes {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self {
            steps: dimensions.div_ceil(STEP),
            ..Self::default()
        }
    }

    /// Codes that are there already, of whole blocks.
    pub(crate) fn mapped(
        dimensions: usize,
        len: usize,
        codes: Column<u8>,
        scales: Column<f32>,
        errors: Column<f32>,
    ) -> Self {
        Self {
            len,
            codes,
            scales,
            errors,
            ..Self::new(dimensions)
        }
    }

    /// Bytes of one row's codes.
    pub(crate) fn bytes_a_row(dimensions: usize) -> usize {
        dimensions.div_ceil(STEP) * STEP
    }

    /// The codes, scales and errors as they lie side by side.
    pub(crate) fn columns(&self) -> (&Column<u8>, &Column<f32>, &Column<f32>) {
        (&self.codes, &self.scales, &self.errors)
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        let blocks = additional.div_ceil(BLOCK);
        self.codes.reserve_exact(blocks * self.steps * BLOCK * STEP);
        self.scales.reserve_exact(blocks * BLOCK);
        self.errors.reserve_exact(blocks * BLOCK);
    }

    pub(crate) fn push(&mut self, vector: &[f32]) {
        if self.len.is_multiple_of(BLOCK) {
            let bytes = self.codes.len() + self.steps * BLOCK * STEP;
            self.codes.resize(bytes, OFFSET as u8);
            self.scales.resize(self.len + BLOCK, 0.0);
            self.errors.resize(self.len + BLOCK, 0.0);
        }
        self.len += 1;
        self.set(self.len - 1, vector);
    }

    pub(crate) fn set(&mut self, row: usize, vector: &[f32]) {
        let first = self.first_byte(row);
        let mut codes = std::mem::take(&mut self.scratch);
        let (scale, error) = quantise(vector, &mut codes);
        let block = (row / BLOCK + 1) * self.steps * BLOCK * STEP;
        let steps = self.codes.get_mut(first..block).chunks_mut(BLOCK * STEP);
        for (into, four) in steps.zip(codes.chunks(STEP)) {
            for (byte, code) in into.iter_mut().zip(four) {
                *byte = (*code as i32 + OFFSET) as u8;
            }
        }
        self.scratch = codes;
        self.scales.get_mut(row..row + 1)[0] = scale;
        self.errors.get_mut(row..row + 1)[0] = error;
    }

    /// Makes row `to` that of `from`; neither is mapped.
    pub(crate) fn copy(&mut self, from: usize, to: usize) {
        let (first, into) = (self.first_byte(from), self.first_byte(to));
        for step in 0..self.steps {
            let at = step * BLOCK * STEP;
            self.codes
                .copy_within(first + at..first + at + STEP, into + at);
        }
        self.scales.copy_within(from..from + 1, to);
        self.errors.copy_within(from..from + 1, to);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = len;
        let blocks = len.div_ceil(BLOCK);
        self.codes
            .resize(blocks * self.steps * BLOCK * STEP, OFFSET as u8);
        self.scales.resize(blocks * BLOCK, 0.0);
        self.errors.resize(blocks * BLOCK, 0.0);
    }

    fn first_byte(&self, row: usize) -> usize {
        (row / BLOCK * self.steps * BLOCK + row % BLOCK) * STEP
    }

    pub(crate) fn blocks(&self) -> usize {
        self.scales.len() / BLOCK
    }

    /// The rows of a block that are there.
    pub(crate) fn rows(&self, block: usize) -> Range<usize> {
        block * BLOCK..(block * BLOCK + BLOCK).min(self.len)
    }

    /// The bounds of `N` queries for one block of rows.
    pub(crate) fn bounds<const N: usize>(
        &self,
        block: usize,
        queries: [&QueryCodes; N],
    ) -> [Bounds; N] {
        let bytes = self.steps * BLOCK * STEP;
        let codes = self.codes.get(block * bytes..(block + 1) * bytes);
        let scales = self.scales.get(block * BLOCK..(block + 1) * BLOCK);
        let errors = self.errors.get(block * BLOCK..(block + 1) * BLOCK);
        for query in queries {
            assert_eq!(query.codes.len(), self.steps, "a query of another width");
        }
        #[cfg(target_arch = "x86_64")]
        if has_vnni() {
            // SAFETY: the CPU has AVX-512 F and VNNI; `codes` has 64 bytes and every query one
            // number for each step.
            return unsafe { bounds_vnni(codes, scales, errors, queries) };
        }
        let sums = sums_plain(codes, queries.map(|query| query.codes.as_slice()));
        std::array::from_fn(|index| to_bounds(&sums[index], scales, errors, queries[index]))
    }
}

impl QueryCodes {
    pub(crate) fn new(query: &[f32]) -> Self {
        let mut codes = Vec::new();
        let (scale, error) = quantise(query, &mut codes);
        let codes: Vec<i8> = codes.into_iter().map(|code| code as i8).collect();
        let pack = |four: &[i8]| {
            let mut bytes = [0u8; STEP];
            for (byte, code) in bytes.iter_mut().zip(four) {
                *byte = *code as u8;
            }
            i32::from_le_bytes(bytes)
        };
        Self {
            correction: OFFSET * codes.iter().map(|&code| i32::from(code)).sum::<i32>(),
            codes: codes.chunks(STEP).map(pack).collect(),
            scale,
            error,
            norm: query.iter().map(|value| value * value).sum::<f32>().sqrt(),
        }
    }
}

/// True if this CPU multiplies bytes fast enough for reading the rows twice to pay.
pub(crate) fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[inline(always)]
fn to_bounds(sums: &[i32; BLOCK], scales: &[f32], errors: &[f32], query: &QueryCodes) -> Bounds {
    let (mut lower, mut upper) = ([0.0; BLOCK], [0.0; BLOCK]);
    for lane in 0..BLOCK {
        let score = (sums[lane] - query.correction) as f32 * (scales[lane] * query.scale);
        // Rows have unit length, so what is kept of one is at most 1 + its error long.
        let error = errors[lane];
        let off = error * query.norm + (1.0 + error) * query.error + SLACK;
        lower[lane] = score - off;
        upper[lane] = score + off;
    }
    Bounds { lower, upper }
}

/// The definition.
fn sums_plain<const N: usize>(codes: &[u8], queries: [&[i32]; N]) -> [[i32; BLOCK]; N] {
    let mut sums = [[0; BLOCK]; N];
    for (step, rows) in codes.chunks_exact(BLOCK * STEP).enumerate() {
        for (sums, query) in sums.iter_mut().zip(queries) {
            let query = query[step].to_le_bytes();
            for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(STEP)) {
                for (&code, query) in row.iter().zip(query) {
                    *sum += i32::from(code) * i32::from(query as i8);
                }
            }
        }
    }
    sums
}

/// The sums and what follows from them, compiled together.
///
/// # Safety
///
/// As [`sums_vnni`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn bounds_vnni<const N: usize>(
    codes: &[u8],
    scales: &[f32],
    errors: &[f32],
    queries: [&QueryCodes; N],
) -> [Bounds; N] {
    // SAFETY: the caller's promise is the same.
    let sums = unsafe { sums_vnni(codes, queries.map(|query| query.codes.as_slice())) };
    std::array::from_fn(
        #[inline(always)]
        |index| to_bounds(&sums[index], scales, errors, queries[index]),
    )
}

/// [`sums_plain`], 64 products an instruction.
///
/// # Safety
///
/// The CPU has AVX-512 F and VNNI, and every query is at least `codes.len()` / 64 long.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn sums_vnni<const N: usize>(codes: &[u8], queries: [&[i32]; N]) -> [[i32; BLOCK]; N] {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
        _mm512_storeu_si512,
    };
    let mut sums = [_mm512_setzero_si512(); N];
    for step in 0..codes.len() / (BLOCK * STEP) {
        // SAFETY: 64 bytes from `step` · 64 lie in `codes`, and `step` in every query.
        unsafe {
            let rows =
                _mm512_loadu_si512(codes.as_ptr().add(step * BLOCK * STEP).cast::<__m512i>());
            for index in 0..N {
                let query = _mm512_set1_epi32(*queries[index].get_unchecked(step));
                sums[index] = _mm512_dpbusd_epi32(sums[index], rows, query);
            }
        }
    }
    let mut out = [[0; BLOCK]; N];
    for (out, sums) in out.iter_mut().zip(sums) {
        // SAFETY: `out` has the 64 bytes of a register.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast::<__m512i>(), sums) };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn unit(random: &mut Random, dimensions: usize) -> Vec<f32> {
        let values: Vec<f32> = (0..dimensions)
            .map(|_| random.below(2001) as f32 / 1000.0 - 1.0)
            .collect();
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter().map(|value| value / norm.max(1e-9)).collect()
    }

    #[test]
    fn bounds_hold_the_score_and_are_narrow() {
        let mut random = Random::new(3);
        for dimensions in [1, 2, 3, 4, 5, 7, 63, 64, 384, 385] {
            let mut codes = Codes::new(dimensions);
            let rows: Vec<_> = (0..21).map(|_| unit(&mut random, dimensions)).collect();
            rows.iter().for_each(|row| codes.push(row));
            let queries: [_; 3] = std::array::from_fn(|_| unit(&mut random, dimensions));
            let packed = queries.each_ref().map(|query| QueryCodes::new(query));
            for block in 0..codes.blocks() {
                let all = codes.bounds(block, packed.each_ref());
                for (query, bounds) in queries.iter().zip(all) {
                    for (lane, row) in codes.rows(block).enumerate() {
                        let score: f32 = rows[row].iter().zip(query).map(|(a, b)| a * b).sum();
                        let (lower, upper) = (bounds.lower[lane], bounds.upper[lane]);
                        assert!(lower <= score && score <= upper, "{dimensions}: {score}");
                        assert!(upper - lower < 0.06, "{dimensions}: {lower} to {upper}");
                    }
                }
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vnni_agrees_with_the_definition() {
        if !has_vnni() {
            return;
        }
        let mut random = Random::new(4);
        for steps in [0, 1, 2, 96, 257] {
            let codes: Vec<u8> = (0..steps * 64).map(|_| random.below(256) as u8).collect();
            let queries: [Vec<i32>; 3] =
                std::array::from_fn(|_| (0..steps).map(|_| random.below(1 << 32) as i32).collect());
            let queries = queries.each_ref().map(Vec::as_slice);
            // SAFETY: the CPU has it, and the lengths agree.
            let fast = unsafe { sums_vnni(&codes, queries) };
            assert_eq!(fast, sums_plain(&codes, queries));
        }
    }
}
