//! Rows in one bit a dimension: on which side of the rows' mean it lies.
//!
//! A row r is m + d, and d is taken for f · s, where s is +1 or -1 in each dimension. With
//! f = |d|² / Σ|dᵢ| the product of a query with f · s is about that with d, neither too great nor too
//! small on average (Gao and Long 2024, without their rotation). A query's own values are taken in
//! four bits, so that the product is a few counts of bits.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls code compiled for instruction sets found at run time"
    )
)]

use std::ops::Range;

use super::super::best::{Best, Candidate};
use super::super::column::Column;
use super::super::sections::Mapped;
use super::super::{Allowed, Rows, shares};
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Level;

/// Rows side by side: the 64-bit lanes of a register.
const LANES: usize = 8;

/// Dimensions of a word.
const WORD: usize = 64;

/// Bits of a query's values.
const PLANES: usize = 4;

/// Blocks that all queries pass over before the next ones: 12 KiB at 384 dimensions.
const BLOCKS: usize = 32;

#[derive(Debug)]
pub(super) struct Bits {
    /// Words of a row.
    words: usize,
    len: usize,
    /// `[blocks, words, LANES]`
    bits: Column<u64>,
    /// f of each row.
    factors: Column<f32>,
    /// m: the mean of all rows.
    middle: Column<f32>,
}

/// A query in four bits.
struct QueryPlanes {
    /// `[words]`: bit p of the values of 64 dimensions each.
    planes: Vec<[u64; PLANES]>,
    /// The values are `lowest + step ·` what is kept.
    lowest: f32,
    step: f32,
    sum: f32,
}

impl QueryPlanes {
    fn new(query: &[f32]) -> Self {
        let lowest = query.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = query.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let most = ((1 << PLANES) - 1) as f32;
        let step = ((highest - lowest) / most).max(f32::MIN_POSITIVE);
        let mut planes = vec![[0; PLANES]; query.len().div_ceil(WORD)];
        for (index, value) in query.iter().enumerate() {
            let kept = ((value - lowest) / step).round() as u64;
            for (plane, word) in planes[index / WORD].iter_mut().enumerate() {
                *word |= (kept >> plane & 1) << (index % WORD);
            }
        }
        Self {
            planes,
            lowest,
            step,
            sum: query.iter().sum(),
        }
    }
}

impl Bits {
    /// The mapped rows, which are whole blocks.
    pub(super) fn of(rows: &Rows) -> Self {
        let (dimensions, len) = (rows.dimensions(), rows.base());
        let middle = mean(rows);
        let words = dimensions.div_ceil(WORD);
        let mut bits = vec![0u64; len.div_ceil(LANES) * words * LANES];
        let mut factors = Vec::with_capacity(len);
        for row in 0..len {
            let (mut squared, mut sum) = (0.0f32, 0.0f32);
            let block = &mut bits[row / LANES * words * LANES..][..words * LANES];
            for (index, (value, mean)) in rows.row(row).iter().zip(&middle).enumerate() {
                let off = value - mean;
                squared += off * off;
                sum += off.abs();
                let word = &mut block[index / WORD * LANES + row % LANES];
                *word |= u64::from(off > 0.0) << (index % WORD);
            }
            factors.push(squared / sum.max(f32::MIN_POSITIVE));
        }
        let (mut bit_column, mut factor_column) = (Column::default(), Column::default());
        let mut middle_column = Column::default();
        bit_column.extend(bits);
        factor_column.extend(factors);
        middle_column.extend(middle);
        Self {
            words,
            len,
            bits: bit_column,
            factors: factor_column,
            middle: middle_column,
        }
    }

    /// As they lie in a file, in its first three sections.
    pub(super) fn mapped(mapped: &Mapped, dimensions: usize, len: usize) -> Option<Self> {
        let words = dimensions.div_ceil(WORD);
        let num_words = len.checked_next_multiple_of(LANES)?.checked_mul(words)?;
        Some(Self {
            words,
            len,
            bits: Column::mapped(mapped.section(0, num_words)?),
            factors: Column::mapped(mapped.section(1, len)?),
            middle: Column::mapped(mapped.section(2, dimensions)?),
        })
    }

    /// The bits, factors and means.
    pub(super) fn columns(&self) -> (&Column<u64>, &Column<f32>, &Column<f32>) {
        (&self.bits, &self.factors, &self.middle)
    }

    /// The `count` allowed rows that are closest to each query, about.
    pub(super) fn nearest(
        &self,
        rows: &Rows,
        threads: usize,
        queries: &[&[f32]],
        count: usize,
        allowed: &Allowed,
    ) -> Vec<Vec<usize>> {
        let queries: Vec<_> = queries
            .iter()
            .map(|query| QueryPlanes::new(query))
            .collect();
        let pass = |blocks: Range<usize>| {
            let mut best: Vec<Best> = queries.iter().map(|_| Best::new(count)).collect();
            for first in blocks.clone().step_by(BLOCKS) {
                let some = first..(first + BLOCKS).min(blocks.end);
                for (query, best) in queries.iter().zip(&mut best) {
                    for block in some.clone() {
                        self.offer(rows, block, query, allowed, best);
                    }
                }
            }
            best
        };
        let all = shares(self.len.div_ceil(LANES), threads, pass, |all, more| {
            for (best, more) in all.iter_mut().zip(more) {
                best.join(more);
            }
        });
        all.into_iter().map(Best::into_rows).collect()
    }

    #[inline]
    fn offer(
        &self,
        rows: &Rows,
        block: usize,
        query: &QueryPlanes,
        allowed: &Allowed,
        best: &mut Best,
    ) {
        let first = block * LANES;
        let words = self.words * LANES;
        let bits = self.bits.get(block * words..(block + 1) * words);
        let products = products(Isa::best(), bits, query);
        let worst = best.worst().unwrap_or(f32::NEG_INFINITY);
        let factors = self.factors.get(first..(first + LANES).min(self.len));
        for (lane, (product, factor)) in products.into_iter().zip(factors).enumerate() {
            let (score, row) = (product * factor, first + lane);
            if score >= worst && rows.allows(allowed, row) {
                let rank = rows.rank(row);
                best.offer(Candidate { score, rank, row });
            }
        }
    }
}

/// Σ qᵢ sᵢ for each row of a block.
#[inline]
fn products(isa: Isa, bits: &[u64], query: &QueryPlanes) -> [f32; LANES] {
    #[cfg(target_arch = "x86_64")]
    {
        if isa.level() >= Level::Avx512 && is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: as just found out.
            return unsafe { products_avx512(bits, query) };
        }
        if isa.level() >= Level::Avx2 {
            // SAFETY: an `Isa` can only be built for a level that this CPU reported.
            return unsafe { products_avx2(bits, query) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    products_plain(bits, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn products_avx512(bits: &[u64], query: &QueryPlanes) -> [f32; LANES] {
    products_plain(bits, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn products_avx2(bits: &[u64], query: &QueryPlanes) -> [f32; LANES] {
    products_plain(bits, query)
}

/// The definition, which is compiled for each instruction set.
#[inline(always)]
fn products_plain(bits: &[u64], query: &QueryPlanes) -> [f32; LANES] {
    let mut counts = [[0u64; LANES]; PLANES];
    let mut set = [0u64; LANES];
    let (blocks, _) = bits.as_chunks::<LANES>();
    for (rows, planes) in blocks.iter().zip(&query.planes) {
        for lane in 0..LANES {
            set[lane] += u64::from(rows[lane].count_ones());
        }
        for (counts, plane) in counts.iter_mut().zip(planes) {
            for lane in 0..LANES {
                counts[lane] += u64::from((rows[lane] & plane).count_ones());
            }
        }
    }
    std::array::from_fn(|lane| {
        let planes = counts.iter().enumerate();
        let kept: u64 = planes.map(|(plane, counts)| counts[lane] << plane).sum();
        let of_set = query.lowest * set[lane] as f32 + query.step * kept as f32;
        2.0 * of_set - query.sum
    })
}

fn mean(rows: &Rows) -> Vec<f32> {
    let mut sums = vec![0.0f64; rows.dimensions()];
    for row in 0..rows.base() {
        for (sum, value) in sums.iter_mut().zip(rows.row(row)) {
            *sum += f64::from(*value);
        }
    }
    let count = rows.base().max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_those_of_signs_and_query_on_every_instruction_set() {
        let mut random = Random::new(12);
        for dimensions in [1_usize, 63, 64, 65, 384] {
            let mut number = || random.below(2001) as f32 / 1000.0 - 1.0;
            let query: Vec<f32> = (0..dimensions).map(|_| number()).collect();
            let planes = QueryPlanes::new(&query);
            let mut bits = vec![0u64; dimensions.div_ceil(WORD) * LANES];
            let signs: Vec<Vec<bool>> = (0..LANES)
                .map(|_| (0..dimensions).map(|_| number() > 0.0).collect())
                .collect();
            for (lane, signs) in signs.iter().enumerate() {
                for (index, &sign) in signs.iter().enumerate() {
                    bits[index / WORD * LANES + lane] |= u64::from(sign) << (index % WORD);
                }
            }
            let plain = products_plain(&bits, &planes);
            for isa in Isa::available() {
                assert_eq!(products(isa, &bits, &planes), plain, "{isa:?}");
            }
            for (signs, product) in signs.iter().zip(plain) {
                let pairs = signs.iter().zip(&query);
                let exact: f32 = pairs.map(|(sign, q)| if *sign { *q } else { -q }).sum();
                // Half a step a dimension at the very most, and they cancel.
                let bound = planes.step * (dimensions as f32).sqrt() * 2.0 + 1e-3;
                assert!((product - exact).abs() <= bound, "{product} {exact}");
            }
        }
    }
}
