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
//! instruction adds 64 products to the sums of 16 rows and no sum crosses lanes. Where the CPU has AMX,
//! 16 steps of a block are a tile as they are (`tiles`), and 32 queries take 32 rows at a time.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "VNNI and AMX have no safe form: kernels over slices whose lengths they check"
    )
)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod tiles;

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
#[derive(Clone, Copy, Debug, Default)]
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

    /// The bounds of `N` queries for `B` blocks of rows from `block` on, where an upper bound
    /// reaches the query's threshold; says which rows of the block those are, one bit each. Bounds
    /// of blocks and queries without such a row are not written.
    pub(crate) fn bounds<const N: usize, const B: usize>(
        &self,
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
        if has_vnni() {
            // SAFETY: the CPU has AVX-512 F and VNNI; each block has 64 bytes and every query one
            // number for each step.
            return unsafe { bounds_vnni(&blocks, queries, thresholds, bounds) };
        }
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
}

/// True if this CPU multiplies bytes fast enough for reading the rows twice to pay.
pub(crate) fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
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
            let Bounds { lower, upper } = &mut bounds[index][number];
            for lane in 0..BLOCK {
                let (scale, error) = (block.scales[lane], block.errors[lane]);
                (lower[lane], upper[lane]) = query.bounds(sums[number][lane], scale, error);
                let reaches = upper[lane] >= thresholds[number];
                reached[index][number] |= u16::from(reaches) << lane;
            }
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

/// [`bounds_plain`], 64 products an instruction.
///
/// # Safety
///
/// The CPU has AVX-512 F and VNNI, the blocks are of one size, and every query has at least one number
/// for each 64 bytes of a block.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn bounds_vnni<const N: usize, const B: usize>(
    blocks: &[RowCodes<'_>; B],
    queries: [&QueryCodes; N],
    thresholds: [f32; N],
    bounds: &mut [[Bounds; N]; B],
) -> [[u16; N]; B] {
    use std::arch::x86_64::{
        _CMP_GE_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_loadu_ps,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_epi32,
        _mm512_sub_ps,
    };
    let codes = blocks.each_ref().map(|block| block.codes);
    // SAFETY: the caller's promise is the same.
    let sums = unsafe { sums_vnni(codes, queries.map(|query| query.codes.as_slice())) };
    let mut reached = [[0; N]; B];
    for (index, block) in blocks.iter().enumerate() {
        // SAFETY: a block has 16 scales and 16 errors.
        let (scales, errors) = unsafe {
            (
                _mm512_loadu_ps(block.scales.as_ptr()),
                _mm512_loadu_ps(block.errors.as_ptr()),
            )
        };
        for (number, query) in queries.iter().enumerate() {
            let sum = _mm512_sub_epi32(sums[index][number], _mm512_set1_epi32(query.correction));
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(query.scale));
            let score = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
            let off = _mm512_mul_ps(errors, _mm512_set1_ps(query.norm + query.error));
            let off = _mm512_add_ps(off, _mm512_set1_ps(query.slack()));
            let upper = _mm512_add_ps(score, off);
            let threshold = _mm512_set1_ps(thresholds[number]);
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, threshold);
            reached[index][number] = mask;
            if mask != 0 {
                let out = &mut bounds[index][number];
                // SAFETY: both have room for 16 numbers.
                unsafe {
                    _mm512_storeu_ps(out.upper.as_mut_ptr(), upper);
                    _mm512_storeu_ps(out.lower.as_mut_ptr(), _mm512_sub_ps(score, off));
                }
            }
        }
    }
    reached
}

/// [`sums_plain`] for `B` blocks, which share each number of a query.
///
/// # Safety
///
/// As [`bounds_vnni`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
unsafe fn sums_vnni<const N: usize, const B: usize>(
    blocks: [&[u8]; B],
    queries: [&[i32]; N],
) -> [[std::arch::x86_64::__m512i; N]; B] {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    };
    let mut sums = [[_mm512_setzero_si512(); N]; B];
    for step in 0..blocks[0].len() / (BLOCK * STEP) {
        // SAFETY: 64 bytes from `step` · 64 lie in every block, and `step` in every query.
        unsafe {
            let rows: [__m512i; B] = std::array::from_fn(
                #[inline(always)]
                |index| {
                    let from = blocks[index].as_ptr().add(step * BLOCK * STEP);
                    _mm512_loadu_si512(from.cast::<__m512i>())
                },
            );
            for number in 0..N {
                let query = _mm512_set1_epi32(*queries[number].get_unchecked(step));
                for index in 0..B {
                    sums[index][number] =
                        _mm512_dpbusd_epi32(sums[index][number], rows[index], query);
                }
            }
        }
    }
    sums
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
                let mut all = [[Bounds::default(); 3]];
                let reached = codes.bounds(block, packed.each_ref(), [-2.0; 3], &mut all);
                assert_eq!(reached, [[u16::MAX; 3]]);
                for (query, bounds) in queries.iter().zip(all[0]) {
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
    fn bounds_agree_with_the_definition() {
        let mut random = Random::new(4);
        for dimensions in [1, 4, 63, 64, 384, 1030] {
            let mut codes = Codes::new(dimensions);
            (0..64).for_each(|_| codes.push(&unit(&mut random, dimensions)));
            let queries: [_; 3] =
                std::array::from_fn(|_| QueryCodes::new(&unit(&mut random, dimensions)));
            let queries = queries.each_ref();
            let thresholds = [-0.9, 0.0, 0.05];
            for block in [0, 2] {
                let (mut fast, mut plain) =
                    ([[Bounds::default(); 3]; 2], [[Bounds::default(); 3]; 2]);
                let reached = codes.bounds(block, queries, thresholds, &mut fast);
                let bytes = codes.steps * BLOCK * STEP;
                let blocks = [block, block + 1].map(|block| RowCodes {
                    codes: codes.codes.get(block * bytes..(block + 1) * bytes),
                    scales: codes.lanes(&codes.scales, block),
                    errors: codes.lanes(&codes.errors, block),
                });
                let expected = bounds_plain(&blocks, queries, thresholds, &mut plain);
                assert_eq!(reached, expected);
                for (index, number) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
                    if reached[index][number] != 0 {
                        assert_eq!(fast[index][number].lower, plain[index][number].lower);
                        assert_eq!(fast[index][number].upper, plain[index][number].upper);
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_agree_with_the_definition() {
        use super::tiles::{GROUP, GroupTerms, TiledQueries, Tiles};
        let Some(tiles) = Tiles::configure() else {
            println!("no tiles on this machine");
            return;
        };
        let mut random = Random::new(5);
        for dimensions in [64, 128, 384] {
            let mut codes = Codes::new(dimensions);
            (0..48).for_each(|_| codes.push(&unit(&mut random, dimensions)));
            let queries: Vec<_> = (0..GROUP + 5)
                .map(|_| QueryCodes::new(&unit(&mut random, dimensions)))
                .collect();
            let tiled = TiledQueries::new(&queries).unwrap();
            let thresholds = std::array::from_fn(|number| number as f32 / 200.0 - 0.05);
            for (group, queries) in queries.chunks(GROUP).enumerate() {
                let terms = GroupTerms::new(queries);
                let mut sums = [[[0; BLOCK]; GROUP]; 2];
                codes.tile_sums(&tiles, &tiled, group, [2, 0], &mut sums);
                for (sums, block) in sums.iter().zip([2, 0]) {
                    let reached = codes.reached_by_sums(block, sums, &terms, &thresholds);
                    for (number, query) in queries.iter().enumerate() {
                        let mut plain = [[Bounds::default()]];
                        let limit = thresholds[number];
                        let expected = codes.bounds(block, [query], [limit], &mut plain);
                        assert_eq!(reached[number], expected[0][0], "{dimensions} {number}");
                        for lane in (0..BLOCK).filter(|lane| reached[number] >> lane & 1 == 1) {
                            let row = block * BLOCK + lane;
                            let (lower, upper) = codes.row_bounds(row, sums[number][lane], query);
                            let plain = plain[0][0];
                            assert_eq!((lower, upper), (plain.lower[lane], plain.upper[lane]));
                        }
                    }
                }
            }
        }
        let narrow = [QueryCodes::new(&unit(&mut random, 60))];
        assert!(TiledQueries::new(&narrow).is_none());
    }
}
