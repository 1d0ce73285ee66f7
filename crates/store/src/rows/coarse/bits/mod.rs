//! Rows in one bit a dimension: on which side of the rows' mean it lies.
//!
//! A row r is m + d, and d is taken for f · s, where s is +1 or -1 in each dimension. With
//! f = |d|² / Σ|dᵢ| the product of a query with f · s is about that with d, neither too great nor too
//! small on average (Gao and Long 2024, without their rotation). The products themselves are looked
//! up, four dimensions at a time (`tables`).

mod tables;

use std::ops::Range;

use self::tables::{GROUP, LANES, Marks, QueryTables, Scores, bytes_a_block};
use super::super::best::{Candidate, Many};
use super::super::column::Column;
use super::super::sections::Mapped;
use super::super::{Allowed, Rows, shares};
use crate::isa::Isa;

/// Blocks that all queries pass over before the next ones: 96 KiB at 384 dimensions.
const BLOCKS: usize = 64;

#[derive(Debug)]
pub(super) struct Bits {
    dimensions: usize,
    len: usize,
    /// `[blocks, bytes of a row, LANES]`: the signs of eight dimensions each, the lowest bit first.
    signs: Column<u8>,
    /// f of each row, padded to whole blocks.
    factors: Column<f32>,
    /// m: the mean of all rows.
    middle: Column<f32>,
}

impl Bits {
    /// The mapped rows.
    pub(super) fn of(rows: &Rows) -> Self {
        let (dimensions, len) = (rows.dimensions(), rows.base());
        let middle = mean(rows);
        let bytes = bytes_a_block(dimensions);
        let blocks = len.div_ceil(LANES);
        let mut signs = vec![0u8; blocks * bytes];
        let mut factors = Vec::with_capacity(blocks * LANES);
        for row in 0..len {
            let (mut squared, mut sum) = (0.0f32, 0.0f32);
            let block = &mut signs[row / LANES * bytes..][..bytes];
            for (index, (value, mean)) in rows.row(row).iter().zip(&middle).enumerate() {
                let off = value - mean;
                squared += off * off;
                sum += off.abs();
                block[index / 8 * LANES + row % LANES] |= u8::from(off > 0.0) << (index % 8);
            }
            factors.push(squared / sum.max(f32::MIN_POSITIVE));
        }
        factors.resize(blocks * LANES, 0.0);
        let (mut sign_column, mut factor_column) = (Column::default(), Column::default());
        let mut middle_column = Column::default();
        sign_column.extend(signs);
        factor_column.extend(factors);
        middle_column.extend(middle);
        Self {
            dimensions,
            len,
            signs: sign_column,
            factors: factor_column,
            middle: middle_column,
        }
    }

    /// As they lie in a file, in its first three sections.
    pub(super) fn mapped(mapped: &Mapped, dimensions: usize, len: usize) -> Option<Self> {
        let blocks = len.div_ceil(LANES);
        let bytes = blocks.checked_mul(bytes_a_block(dimensions))?;
        Some(Self {
            dimensions,
            len,
            signs: Column::mapped(mapped.section(0, bytes)?),
            factors: Column::mapped(mapped.section(1, blocks.checked_mul(LANES)?)?),
            middle: Column::mapped(mapped.section(2, dimensions)?),
        })
    }

    /// The signs, factors and means.
    pub(super) fn columns(&self) -> (&Column<u8>, &Column<f32>, &Column<f32>) {
        (&self.signs, &self.factors, &self.middle)
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
        let tables = queries.iter().map(|query| QueryTables::new(query));
        let pass = Pass {
            isa: Isa::best(),
            bits: self,
            rows,
            queries: tables.collect(),
            count,
            allowed,
        };
        let run = |blocks: Range<usize>| pass.run(blocks);
        let all = shares(self.len.div_ceil(LANES), threads, run, |all, more| {
            for (best, more) in all.iter_mut().zip(more) {
                best.join(more);
            }
        });
        all.into_iter().map(Many::into_rows).collect()
    }

    fn signs(&self, block: usize) -> &[u8] {
        let bytes = bytes_a_block(self.dimensions);
        self.signs.get(block * bytes..(block + 1) * bytes)
    }

    fn factors(&self, block: usize) -> &[f32; LANES] {
        let factors = self.factors.get(block * LANES..(block + 1) * LANES);
        factors.try_into().expect("blocks are whole; this is a bug")
    }
}

/// One pass over the signs for all queries.
struct Pass<'a> {
    isa: Isa,
    bits: &'a Bits,
    rows: &'a Rows,
    queries: Vec<QueryTables>,
    /// How many rows are to be named for each.
    count: usize,
    allowed: &'a Allowed,
}

impl Pass<'_> {
    fn run(&self, blocks: Range<usize>) -> Vec<Many> {
        let queries = self.queries.iter();
        let mut best: Vec<Many> = queries.map(|_| Many::new(self.count)).collect();
        for first in blocks.clone().step_by(BLOCKS) {
            let some = first..(first + BLOCKS).min(blocks.end);
            let (groups, rest) = self.queries.as_chunks::<GROUP>();
            for (group, queries) in groups.iter().enumerate() {
                let best = &mut best[group * GROUP..(group + 1) * GROUP];
                self.group(some.clone(), queries.each_ref(), best);
            }
            let done = groups.len() * GROUP;
            for (query, best) in rest.iter().zip(best[done..].chunks_mut(1)) {
                self.group(some.clone(), [query], best);
            }
        }
        best
    }

    fn group<const N: usize>(
        &self,
        blocks: Range<usize>,
        queries: [&QueryTables; N],
        best: &mut [Many],
    ) {
        let mut scores = [[0.0; LANES]; N];
        for block in blocks {
            let thresholds = std::array::from_fn(|number| best[number].threshold());
            let (signs, factors) = (self.bits.signs(block), self.bits.factors(block));
            let marks = tables::scores(self.isa, signs, factors, queries, thresholds, &mut scores);
            for (number, marks) in marks.into_iter().enumerate() {
                if marks != 0 {
                    self.offer(block, marks, &scores[number], &mut best[number]);
                }
            }
        }
    }

    /// Offers the marked rows of a block.
    fn offer(&self, block: usize, mut marks: Marks, scores: &Scores, best: &mut Many) {
        while marks != 0 {
            let lane = marks.trailing_zeros() as usize;
            marks &= marks - 1;
            let row = block * LANES + lane;
            // The last block has rows that are none.
            if row < self.bits.len && self.rows.allows(self.allowed, row) {
                let (score, rank) = (scores[lane], self.rows.rank(row));
                best.offer(Candidate { score, rank, row });
            }
        }
    }
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
