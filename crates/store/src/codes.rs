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
//! instruction adds 64 products to the sums of 16 rows and no sum crosses lanes (`vnni`). Where the CPU
//! has AMX, 16 steps of a block are a tile as they are (`tiles`), and 32 queries take 32 rows at a time.
//! AVX2 adds products of bytes in 16 bits only (`avx2`): there a query's codes are made so much smaller
//! that the sums of several steps hold, and what they lose is kept in codes of its own, which are read
//! where the first bounds do not decide.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls code compiled for instruction sets found at run time"
    )
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tiles;

use std::ops::Range;

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Level;
use crate::rows::Column;

/// Rows of a block: the 32-bit lanes of a register.
pub(crate) const BLOCK: usize = 16;

/// Dimensions that one 32-bit lane takes at a time.
const STEP: usize = 4;

/// Steps whose sums AVX2 takes in 16 bits before they are widened: more would leave a query's codes
/// too few values.
const NARROW_STEPS: usize = 4;

/// The most that the codes of one sign may come to among the products of one 16-bit sum: a row's codes
/// are at most 255 as they are kept, and 128 · 255 = 32 640 < 2¹⁵.
const NARROW_SUM: f32 = 128.0;

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
    /// What the codes lose, if they are so small that their sums hold in 16 bits, as AVX2 takes them.
    rest: Option<Rest>,
    /// What the rows' offset adds to every sum.
    correction: i32,
}

/// What a query's codes lose, in codes of the same kind.
#[derive(Debug)]
struct Rest {
    codes: Vec<i32>,
    scale: f32,
    /// The length of what is lost even so.
    error: f32,
    correction: i32,
}

/// Lower and upper bounds of the scores of one block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) lower: [f32; BLOCK],
    pub(crate) upper: [f32; BLOCK],
}

impl Bounds {
    /// Writes what `bounds` says of each lane; returns which upper bounds reach the threshold, one bit
    /// each.
    fn fill(&mut self, threshold: f32, bounds: impl Fn(usize) -> (f32, f32)) -> u16 {
        let mut reached = 0;
        for lane in 0..BLOCK {
            (self.lower[lane], self.upper[lane]) = bounds(lane);
            reached |= u16::from(self.upper[lane] >= threshold) << lane;
        }
        reached
    }
}

/// Added and taken away again, this rounds an f32 below 2²² to the nearest whole number: the
/// compiler makes vectors of it, which it does not of `f32::round`.
const ROUNDING: f32 = 12_582_912.0;

/// Writes a vector's codes at a scale as numbers to `codes`; returns the length of what is lost.
fn quantise(vector: &[f32], scale: f32, codes: &mut Vec<f32>) -> f32 {
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
    lost.sum::<f32>().sqrt() * (1.0 + 1.0 / 1024.0)
}

/// The scale at which a vector's codes fill [-127, 127].
fn wide_scale(vector: &[f32]) -> f32 {
    let largest = vector
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    largest / 127.0
}

/// The scale at which no sum that AVX2 takes in 16 bits leaves them, whatever the rows are: a sum is of
/// two neighbours in each of [`NARROW_STEPS`] steps, and lies between 255 times the codes below zero and
/// 255 times those above.
fn narrow_scale(vector: &[f32]) -> f32 {
    const PRODUCTS: usize = 2 * NARROW_STEPS;
    // Rounding adds at most a half to each code.
    const MOST: f32 = NARROW_SUM - PRODUCTS as f32 / 2.0;
    let mut scale = 0.0f32;
    for steps in vector.chunks(NARROW_STEPS * STEP) {
        for first in [0, 2] {
            let (mut above, mut below) = (0.0, 0.0);
            for pair in steps.chunks(2).skip(first / 2).step_by(2) {
                for value in pair {
                    // Divided first: finite numbers stay finite.
                    let part = value / MOST;
                    above += part.max(0.0);
                    below -= part.min(0.0);
                }
            }
            scale = scale.max(above).max(below);
        }
    }
    scale
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
        let scale = wide_scale(vector);
        let error = quantise(vector, scale, &mut codes);
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

    /// The bounds of `N` queries for `B` blocks of rows from `block` on, where an upper bound
    /// reaches the query's threshold; says which rows of the block those are, one bit each. Bounds
    /// of blocks and queries without such a row are not written.
    pub(crate) fn bounds<const N: usize, const B: usize>(
        &self,
        isa: Isa,
        block: usize,
        queries: [&QueryCodes; N],
        thresholds: [f32; N],
        bounds: &mut [[Bounds; N]; B],
    ) -> [[u16; N]; B] {
        let bytes = self.steps * BLOCK * STEP;
        let blocks: [RowCodes<'_>; B] = std::array::from_fn(|index| {
            let block = block + index;
            RowCodes {
                codes: self.codes.get(block * bytes..(block + 1) * bytes),
                scales: self.lanes(&self.scales, block),
                errors: self.lanes(&self.errors, block),
            }
        });
        for query in queries {
            assert_eq!(query.codes.len(), self.steps, "a query of another width");
        }
        #[cfg(target_arch = "x86_64")]
        match isa.level() {
            Level::Vnni | Level::Amx => {
                // SAFETY: an `Isa` can only be built for a level that this CPU reported; each block
                // has 64 bytes and every query one number for each step.
                return unsafe { vnni::bounds(&blocks, queries, thresholds, bounds) };
            }
            Level::Avx2 | Level::Avx512 if queries.iter().all(|query| query.rest.is_some()) => {
                // SAFETY: as above.
                return unsafe { avx2::bounds(&blocks, queries, thresholds, bounds) };
            }
            _ => {}
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        bounds_plain(&blocks, queries, thresholds, bounds)
    }

    /// The sums of two blocks with a group of queries; for a single last block, twice its own.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn tile_sums(
        &self,
        tiles: &tiles::Tiles,
        queries: &tiles::TiledQueries,
        group: usize,
        blocks: [usize; 2],
        sums: &mut [tiles::Sums; 2],
    ) {
        let bytes = self.steps * BLOCK * STEP;
        let codes = blocks.map(|block| self.codes.get(block * bytes..(block + 1) * bytes));
        tiles.sums(queries, group, codes, sums);
    }

    /// For each query of a group the rows of a block whose upper bounds reach its threshold, one bit
    /// each.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn reached_by_sums(
        &self,
        block: usize,
        sums: &tiles::Sums,
        terms: &tiles::GroupTerms,
        thresholds: &[f32; tiles::GROUP],
    ) -> [u16; tiles::GROUP] {
        let scales = self.lanes(&self.scales, block);
        let errors = self.lanes(&self.errors, block);
        terms.reached(sums, scales, errors, thresholds)
    }

    /// The lower and upper bound of one row's score, by the sum of the products of its codes.
    pub(crate) fn row_bounds(&self, row: usize, sum: i32, query: &QueryCodes) -> (f32, f32) {
        let scale = self.scales.get(row..row + 1)[0];
        let error = self.errors.get(row..row + 1)[0];
        query.bounds(sum, scale, error)
    }

    fn lanes<'a>(&self, column: &'a Column<f32>, block: usize) -> &'a [f32; BLOCK] {
        let lanes = column.get(block * BLOCK..(block + 1) * BLOCK);
        lanes.try_into().expect("blocks are whole; this is a bug")
    }
}

/// A block of rows.
struct RowCodes<'a> {
    /// `[steps, BLOCK, STEP]`
    codes: &'a [u8],
    scales: &'a [f32; BLOCK],
    errors: &'a [f32; BLOCK],
}

impl QueryCodes {
    /// The codes that this instruction set can multiply.
    pub(crate) fn new(isa: Isa, query: &[f32]) -> Self {
        let mut codes = Vec::new();
        let is_narrow = !isa.has_wide_sums();
        let scale = if is_narrow {
            narrow_scale(query)
        } else {
            wide_scale(query)
        };
        let error = quantise(query, scale, &mut codes);
        let (packed, correction) = pack(&codes);
        Self {
            rest: is_narrow.then(|| {
                let lost = query.iter().zip(&codes);
                Rest::new(
                    &lost
                        .map(|(value, code)| value - code * scale)
                        .collect::<Vec<_>>(),
                )
            }),
            codes: packed,
            scale,
            error,
            correction,
            norm: query.iter().map(|value| value * value).sum::<f32>().sqrt(),
        }
    }
}

impl Rest {
    fn new(lost: &[f32]) -> Self {
        let mut codes = Vec::new();
        let scale = narrow_scale(lost);
        let error = quantise(lost, scale, &mut codes);
        let (codes, correction) = pack(&codes);
        Self {
            codes,
            scale,
            error,
            correction,
        }
    }
}

/// Codes four to a number, and what the rows' offset adds to a sum of their products.
fn pack(codes: &[f32]) -> (Vec<i32>, i32) {
    let four = |four: &[f32]| {
        let mut bytes = [0u8; STEP];
        for (byte, code) in bytes.iter_mut().zip(four) {
            *byte = *code as i8 as u8;
        }
        i32::from_le_bytes(bytes)
    };
    let sum: i32 = codes.iter().map(|&code| code as i32).sum();
    (codes.chunks(STEP).map(four).collect(), OFFSET * sum)
}

impl QueryCodes {
    /// The part of the bounds' width that does not depend on the row.
    #[inline(always)]
    fn slack(&self) -> f32 {
        self.error + SLACK
    }

    /// The lower and upper bound of a row's score.
    #[inline(always)]
    fn bounds(&self, sum: i32, scale: f32, error: f32) -> (f32, f32) {
        let score = (sum - self.correction) as f32 * (scale * self.scale);
        // Rows have unit length, so what is kept of one is at most 1 + its error long:
        // error · norm + (1 + error) · query.error.
        let off = error * (self.norm + self.error) + self.slack();
        (score - off, score + off)
    }

    /// The bounds by the sums of the codes and of those of the rest.
    #[inline(always)]
    fn refined(&self, rest: &Rest, sums: [i32; 2], scale: f32, error: f32) -> (f32, f32) {
        let first = (sums[0] - self.correction) as f32 * self.scale;
        let second = (sums[1] - rest.correction) as f32 * rest.scale;
        let score = (first + second) * scale;
        let off = error * (self.norm + rest.error) + (rest.error + SLACK);
        (score - off, score + off)
    }
}

/// The definition.
fn bounds_plain<const N: usize, const B: usize>(
    blocks: &[RowCodes<'_>; B],
    queries: [&QueryCodes; N],
    thresholds: [f32; N],
    bounds: &mut [[Bounds; N]; B],
) -> [[u16; N]; B] {
    let mut reached = [[0; N]; B];
    for (index, block) in blocks.iter().enumerate() {
        let sums = sums_plain(block.codes, queries.map(|query| query.codes.as_slice()));
        for (number, query) in queries.iter().enumerate() {
            let out = &mut bounds[index][number];
            let threshold = thresholds[number];
            let row = |lane: usize| (block.scales[lane], block.errors[lane]);
            let mut mask = out.fill(threshold, |lane| {
                let (scale, error) = row(lane);
                query.bounds(sums[number][lane], scale, error)
            });
            if let (Some(rest), true) = (&query.rest, mask != 0) {
                let [rest_sums] = sums_plain(block.codes, [&rest.codes]);
                mask = out.fill(threshold, |lane| {
                    let (scale, error) = row(lane);
                    let sums = [sums[number][lane], rest_sums[lane]];
                    query.refined(rest, sums, scale, error)
                });
            }
            reached[index][number] = mask;
        }
    }
    reached
}

/// The sums of the products of codes.
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

#[cfg(test)]
mod tests;
