//! Products of queries with signs, four dimensions at a time.
//!
//! Four signs are one of 16 patterns, so a query has 16 products with them, each a byte in a table. On
//! AVX2 one instruction (`vpshufb`) looks up a table for 32 rows, and as the tables' numbers are so small
//! that four of them fit a byte, five more add 128 dimensions · rows to the sums (the fast scan of André,
//! Kermarrec and Le Scouarnec 2017).

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls code compiled for instruction sets found at run time"
    )
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_GE_OQ, _mm_cvtss_f32, _mm_loadu_si128, _mm_max_ps, _mm_max_ss,
    _mm_movehdup_ps, _mm_movehl_ps, _mm256_add_epi8, _mm256_add_epi16, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cmp_ps,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_extractf128_ps, _mm256_extracti128_si256,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps, _mm256_movemask_ps, _mm256_mul_ps,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_epi16,
    _mm256_sub_ps, _mm256_subs_epu16, _mm256_testz_si256, _mm256_unpackhi_epi16,
    _mm256_unpacklo_epi16,
};

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Level;

/// Rows of a block: the bytes of a register.
pub(super) const LANES: usize = 32;

/// Queries that share one reading of a block: their sums and the patterns fit 16 registers.
pub(super) const GROUP: usize = 4;

/// Dimensions of a table.
const DIMENSIONS: usize = 4;

/// Patterns of their signs.
const PATTERNS: usize = 1 << DIMENSIONS;

/// Tables of a step, whose numbers are added as bytes before they are widened.
const TABLES: usize = 4;

/// Dimensions of a step.
const STEP: usize = TABLES * DIMENSIONS;

/// Bytes of a step's tables.
const TABLE_BYTES: usize = TABLES * PATTERNS;

/// Bytes of a step of a block: a row has 16 signs, in two bytes.
const STEP_BYTES: usize = LANES * STEP / 8;

/// The most that the values of one table may come to before they are rounded, each by a half at most: its
/// numbers are up to twice as great, and those of four tables are added in a byte.
const MOST_OF_TABLE: f32 = (u8::MAX / 2) as f32 / TABLES as f32 - DIMENSIONS as f32 / 2.0;

/// The most that all values may come to: sums are 16 bits wide, and up to twice as great.
const MOST_OF_ALL: i32 = u16::MAX as i32 / 2;

/// The rows of a block that reach a threshold, one bit each.
pub(super) type Marks = u32;

/// Of the rows of a block.
pub(super) type Scores = [f32; LANES];

/// Bytes of a block of rows.
pub(super) fn bytes_a_block(dimensions: usize) -> usize {
    dimensions.div_ceil(STEP) * STEP_BYTES
}

/// A query's products with each pattern of signs.
pub(super) struct QueryTables {
    /// `[steps, TABLES, PATTERNS]`: each is greater by the sum of its table's absolute values, so that
    /// none is below zero.
    tables: Vec<u8>,
    /// By how much a row's sum is therefore too great.
    offset: f32,
}

impl QueryTables {
    pub(super) fn new(query: &[f32]) -> Self {
        Self::with_step_of(query).0
    }

    /// A query's values are rounded to multiples of a step, in which scores are.
    fn with_step_of(query: &[f32]) -> (Self, f32) {
        let mut step = step(query);
        loop {
            let tables = Self::with_step(query, step);
            // Thousands of dimensions can come to more.
            if tables.offset <= MOST_OF_ALL as f32 {
                return (tables, step);
            }
            step *= 2.0;
        }
    }

    fn with_step(query: &[f32], step: f32) -> Self {
        let mut tables = vec![0u8; query.len().div_ceil(STEP) * TABLE_BYTES];
        let mut offset = 0;
        for (table, values) in tables.chunks_mut(PATTERNS).zip(query.chunks(DIMENSIONS)) {
            let kept = |index: usize| values.get(index).map_or(0, |v| (v / step).round() as i32);
            let kept: [i32; DIMENSIONS] = std::array::from_fn(kept);
            let most: i32 = kept.iter().map(|value| value.abs()).sum();
            offset += most;
            for (pattern, number) in table.iter_mut().enumerate() {
                let signs = kept.iter().enumerate();
                let signed = signs.map(|(bit, v)| if pattern >> bit & 1 == 1 { *v } else { -v });
                *number = (most + signed.sum::<i32>()) as u8;
            }
        }
        Self {
            tables,
            offset: offset as f32,
        }
    }
}

/// The step with which no table's numbers leave their width.
fn step(query: &[f32]) -> f32 {
    // Divided first: finite numbers stay finite.
    let most = |values: &[f32]| values.iter().map(|v| v.abs() / MOST_OF_TABLE).sum();
    let step = query.chunks(DIMENSIONS).map(most).fold(0.0, f32::max);
    // A thousandth more for the rounding of the sums.
    (step * 1.001).max(f32::MIN_POSITIVE)
}

/// The scores of a block's rows for `N` queries, Σ qᵢ sᵢ · factor in each query's step, where one reaches
/// the query's threshold; says which do. The scores of a query without such a row mean nothing.
pub(super) fn scores<const N: usize>(
    isa: Isa,
    signs: &[u8],
    factors: &[f32; LANES],
    queries: [&QueryTables; N],
    thresholds: [f32; N],
    scores: &mut [Scores; N],
) -> [Marks; N] {
    for query in queries {
        let (steps, tables) = (signs.len() / STEP_BYTES, query.tables.len() / TABLE_BYTES);
        assert_eq!(tables, steps, "a query of another width");
    }
    #[cfg(target_arch = "x86_64")]
    if isa.level() >= Level::Avx2 {
        // SAFETY: an `Isa` can only be built for a level that this CPU reported; each query has the
        // tables of every step.
        return unsafe { scores_avx2(signs, factors, queries, thresholds, scores) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    scores_plain(signs, factors, queries, thresholds, scores)
}

/// The definition.
fn scores_plain<const N: usize>(
    signs: &[u8],
    factors: &[f32; LANES],
    queries: [&QueryTables; N],
    thresholds: [f32; N],
    scores: &mut [Scores; N],
) -> [Marks; N] {
    let mut marks = [0; N];
    for (number, query) in queries.iter().enumerate() {
        let mut sums = [0u16; LANES];
        let (pairs, _) = query.tables.as_chunks::<{ 2 * PATTERNS }>();
        let (rows, _) = signs.as_chunks::<LANES>();
        for (pair, rows) in pairs.iter().zip(rows) {
            let (low, high) = pair.split_at(PATTERNS);
            for (sum, row) in sums.iter_mut().zip(rows) {
                let (first, second) = (row & 15, row >> 4);
                *sum += u16::from(low[usize::from(first)]) + u16::from(high[usize::from(second)]);
            }
        }
        for (lane, (sum, factor)) in sums.into_iter().zip(factors).enumerate() {
            scores[number][lane] = (f32::from(sum) - query.offset) * factor;
            marks[number] |= u32::from(scores[number][lane] >= thresholds[number]) << lane;
        }
    }
    marks
}

/// [`scores_plain`].
///
/// # Safety
///
/// The CPU has AVX2, and every query has [`TABLE_BYTES`] for each [`STEP_BYTES`] of a block.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn scores_avx2<const N: usize>(
    signs: &[u8],
    factors: &[f32; LANES],
    queries: [&QueryTables; N],
    thresholds: [f32; N],
    scores: &mut [Scores; N],
) -> [Marks; N] {
    // SAFETY: the caller's promise is the same.
    let sums = unsafe { sums(signs, queries) };
    // SAFETY: a block has 32 factors.
    let factors: [_; 4] =
        std::array::from_fn(|part| unsafe { _mm256_loadu_ps(factors.as_ptr().add(part * 8)) });
    let inverse = 1.0 / greatest(factors).max(f32::MIN_POSITIVE);
    let mut marks = [0; N];
    for (number, query) in queries.iter().enumerate() {
        // No row of most blocks comes near. 0.1 % and one less for the rounding.
        let least = thresholds[number] * inverse * 0.999 + query.offset - 1.0;
        let least = _mm256_set1_epi16(least as u16 as i16);
        let [even, odd] = sums[number].map(|sums| _mm256_subs_epu16(sums, least));
        let above = _mm256_or_si256(even, odd);
        if thresholds[number] > 0.0 && _mm256_testz_si256(above, above) == 1 {
            continue;
        }
        let [even, odd] = sums[number];
        let first = _mm256_unpacklo_epi16(even, odd);
        let second = _mm256_unpackhi_epi16(even, odd);
        let eighths = [
            _mm256_castsi256_si128(first),
            _mm256_castsi256_si128(second),
            _mm256_extracti128_si256::<1>(first),
            _mm256_extracti128_si256::<1>(second),
        ];
        let offset = _mm256_set1_ps(query.offset);
        let threshold = _mm256_set1_ps(thresholds[number]);
        for (part, eight) in eighths.into_iter().enumerate() {
            let sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eight));
            let score = _mm256_mul_ps(_mm256_sub_ps(sum, offset), factors[part]);
            let reaches = _mm256_cmp_ps::<_CMP_GE_OQ>(score, threshold);
            marks[number] |= (_mm256_movemask_ps(reaches) as u32) << (part * 8);
            // SAFETY: there is room for 32 scores.
            unsafe { _mm256_storeu_ps(scores[number].as_mut_ptr().add(part * 8), score) };
        }
    }
    marks
}

/// The greatest of 32 numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn greatest(numbers: [__m256; 4]) -> f32 {
    let [a, b, c, d] = numbers;
    let eight = _mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d));
    let four = _mm_max_ps(
        _mm256_castps256_ps128(eight),
        _mm256_extractf128_ps::<1>(eight),
    );
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// The sums of the looked-up numbers in 16 bits, those of even rows and those of odd ones.
///
/// # Safety
///
/// As [`scores_avx2`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn sums<const N: usize>(signs: &[u8], queries: [&QueryTables; N]) -> [[__m256i; 2]; N] {
    let low_bits = _mm256_set1_epi8(15);
    let zero = _mm256_setzero_si256();
    // Those of even rows with 256 times those of odd ones: taken away at the end, they need no mask.
    let (mut both, mut odd) = ([zero; N], [zero; N]);
    for step in 0..signs.len() / STEP_BYTES {
        // SAFETY: a step of a block has two registers.
        let [first, second] = [0, 1].map(|half| unsafe {
            let at = signs.as_ptr().add(step * STEP_BYTES + half * LANES);
            _mm256_loadu_si256(at.cast::<__m256i>())
        });
        let patterns = [
            _mm256_and_si256(first, low_bits),
            _mm256_and_si256(_mm256_srli_epi16::<4>(first), low_bits),
            _mm256_and_si256(second, low_bits),
            _mm256_and_si256(_mm256_srli_epi16::<4>(second), low_bits),
        ];
        for (number, query) in queries.iter().enumerate() {
            let look_up = |table: usize| {
                // SAFETY: by the caller's promise there are four tables for each step.
                let numbers = unsafe {
                    let at = step * TABLE_BYTES + table * PATTERNS;
                    _mm_loadu_si128(query.tables.as_ptr().add(at).cast::<__m128i>())
                };
                let numbers = _mm256_broadcastsi128_si256(numbers);
                _mm256_shuffle_epi8(numbers, patterns[table])
            };
            let sum = _mm256_add_epi8(
                _mm256_add_epi8(look_up(0), look_up(1)),
                _mm256_add_epi8(look_up(2), look_up(3)),
            );
            both[number] = _mm256_add_epi16(both[number], sum);
            odd[number] = _mm256_add_epi16(odd[number], _mm256_srli_epi16::<8>(sum));
        }
    }
    let mut sums = [[zero; 2]; N];
    for number in 0..N {
        let even = _mm256_sub_epi16(both[number], _mm256_slli_epi16::<8>(odd[number]));
        sums[number] = [even, odd[number]];
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The signs of a block's rows, and as they are kept.
    fn block(random: &mut Random, dimensions: usize) -> (Vec<Vec<bool>>, Vec<u8>) {
        let mut row = || (0..dimensions).map(|_| random.below(2) == 1).collect();
        let signs: Vec<Vec<bool>> = (0..LANES).map(|_| row()).collect();
        let mut kept = vec![0; bytes_a_block(dimensions)];
        for (lane, signs) in signs.iter().enumerate() {
            for (index, &sign) in signs.iter().enumerate() {
                kept[index / 8 * LANES + lane] |= u8::from(sign) << (index % 8);
            }
        }
        (signs, kept)
    }

    #[test]
    fn scores_are_products_of_signs_and_query_on_every_instruction_set() {
        let mut random = Random::new(12);
        for dimensions in [1_usize, 15, 16, 17, 100, 384, 8192, 65_536] {
            let (signs, kept) = block(&mut random, dimensions);
            let mut number = || random.below(2001) as f32 / 1000.0 - 1.0;
            // One of them has equal values, whose sums are as great as they can be.
            let queries: [Vec<f32>; 3] =
                std::array::from_fn(|_| (0..dimensions).map(|_| number()).collect());
            let queries = [
                &queries[0],
                &queries[1],
                &vec![0.7; dimensions],
                &queries[2],
            ];
            let factors: [f32; LANES] = std::array::from_fn(|lane| 0.5 + lane as f32 / 16.0);
            let (tables, steps): (Vec<_>, Vec<_>) = queries
                .map(|query| QueryTables::with_step_of(query))
                .into_iter()
                .unzip();
            let tables: [&QueryTables; GROUP] = std::array::from_fn(|number| &tables[number]);
            let all = [f32::NEG_INFINITY; GROUP];
            let mut plain = [[0.0; LANES]; GROUP];
            let marks = scores_plain(&kept, &factors, tables, all, &mut plain);
            assert_eq!(marks, [Marks::MAX; GROUP]);
            for ((query, step), scores) in queries.iter().zip(steps).zip(&plain) {
                for (lane, score) in scores.iter().enumerate() {
                    let pairs = signs[lane].iter().zip(*query);
                    let exact: f32 = pairs.map(|(sign, q)| if *sign { *q } else { -q }).sum();
                    // Half a step a dimension at the very most.
                    let off = (score * step / factors[lane] - exact).abs();
                    assert!(
                        off <= 0.5 * step * dimensions as f32 + 1e-3,
                        "{score} {exact}"
                    );
                }
            }
            let thresholds = plain.map(|scores| scores[3]);
            let expected = scores_plain(&kept, &factors, tables, thresholds, &mut plain);
            for isa in Isa::available() {
                let mut found = [[0.0; LANES]; GROUP];
                let marks = scores(isa, &kept, &factors, tables, thresholds, &mut found);
                assert_eq!((marks, found), (expected, plain), "{isa:?} {dimensions}");
                let [alone] = scores(
                    isa,
                    &kept,
                    &factors,
                    [tables[1]],
                    [thresholds[1]],
                    (&mut found[..1]).try_into().unwrap(),
                );
                assert_eq!((alone, found[0]), (expected[1], plain[1]), "{isa:?}");
            }
        }
    }

    #[test]
    fn a_query_of_zeros_or_of_the_greatest_numbers_has_tables() {
        for query in [
            vec![0.0; 20],
            vec![f32::MAX; 20],
            vec![f32::MIN_POSITIVE; 20],
        ] {
            let tables = QueryTables::new(&query);
            assert!(tables.offset.is_finite());
        }
    }
}
