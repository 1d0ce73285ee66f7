//! Which rows can be among the best, told by the bounds of their int8 codes.

use std::ops::Range;

use super::best::{Best, Candidate};
use super::{Allowed, Rows, shares};
#[cfg(target_arch = "x86_64")]
use crate::codes::BLOCK;
#[cfg(target_arch = "x86_64")]
use crate::codes::tiles::{self, GroupTerms, Sums, TiledQueries, Tiles};
use crate::codes::{Bounds, Codes, QueryCodes};
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Level;

/// Queries that share one reading of two blocks: their sums and the blocks fit the 32 registers.
const GROUP: usize = 8;

/// From so many queries on they are multiplied as tiles, where there are any.
#[cfg(target_arch = "x86_64")]
const WORTH_TILES: usize = 4;

/// Blocks that all queries pass over before the next ones: 96 KiB at 384 dimensions.
const BLOCKS: usize = 16;

/// Candidates that are kept before those that fell behind are dropped.
const MANY: usize = 1024;

/// One pass over the codes for all queries.
pub(super) struct Sieve<'a> {
    isa: Isa,
    rows: &'a Rows,
    /// Those of the rows, or of the first of them.
    codes: &'a Codes,
    queries: Vec<QueryCodes>,
    top_k: usize,
    allowed: &'a Allowed,
}

/// What one query has kept so far.
struct Kept {
    /// The best lower bounds: the worst of them is what an upper bound must reach.
    lower: Best,
    threshold: f32,
    /// `(upper bound, row)`
    candidates: Vec<(f32, usize)>,
    /// How many candidates lead to the next cleaning.
    limit: usize,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(
        isa: Isa,
        rows: &'a Rows,
        codes: &'a Codes,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &'a Allowed,
    ) -> Self {
        let packed = queries.iter().map(|query| QueryCodes::new(isa, query));
        Self {
            isa,
            rows,
            codes,
            queries: packed.collect(),
            top_k,
            allowed,
        }
    }

    /// For each query the rows that can be among its best.
    pub(super) fn run(&self, threads: usize) -> Vec<Vec<usize>> {
        let pass = |blocks: Range<usize>| self.pass(blocks);
        let all = shares(self.codes.blocks(), threads, pass, |all, more| {
            for (kept, more) in all.iter_mut().zip(more) {
                kept.join(more);
            }
        });
        all.into_iter().map(Kept::into_rows).collect()
    }

    fn pass(&self, blocks: Range<usize>) -> Vec<Kept> {
        let mut kept: Vec<Kept> = self.queries.iter().map(|_| Kept::new(self.top_k)).collect();
        #[cfg(target_arch = "x86_64")]
        if self.isa.level() == Level::Amx
            && self.queries.len() >= WORTH_TILES
            && let Some(queries) = TiledQueries::new(&self.queries)
            && let Some(tiles) = Tiles::configure()
        {
            self.pass_tiled(blocks, &tiles, &queries, &mut kept);
            return kept;
        }
        let mut next = blocks.start;
        while next < blocks.end {
            let some = next..(next + BLOCKS).min(blocks.end);
            next = some.end;
            let (groups, rest) = self.queries.as_chunks::<GROUP>();
            for (group, queries) in groups.iter().enumerate() {
                let kept = &mut kept[group * GROUP..(group + 1) * GROUP];
                self.pass_group(some.clone(), queries.each_ref(), kept);
            }
            let done = groups.len() * GROUP;
            for (query, kept) in rest.iter().zip(kept[done..].chunks_mut(1)) {
                self.pass_group(some.clone(), [query], kept);
            }
        }
        kept
    }

    #[cfg(target_arch = "x86_64")]
    fn pass_tiled(
        &self,
        blocks: Range<usize>,
        tiles: &Tiles,
        queries: &TiledQueries,
        kept: &mut [Kept],
    ) {
        let groups = self.queries.chunks(tiles::GROUP);
        let terms: Vec<GroupTerms> = groups.map(GroupTerms::new).collect();
        let mut sums = [[[0; BLOCK]; tiles::GROUP]; 2];
        let mut next = blocks.start;
        while next < blocks.end {
            let some = next..(next + BLOCKS).min(blocks.end);
            next = some.end;
            for (group, terms) in terms.iter().enumerate() {
                let first = group * tiles::GROUP;
                let last = (first + tiles::GROUP).min(self.queries.len());
                let kept = &mut kept[first..last];
                let own = &self.queries[first..last];
                for block in some.clone().step_by(2) {
                    let pair = [block, (block + 1).min(some.end - 1)];
                    self.codes.tile_sums(tiles, queries, group, pair, &mut sums);
                    let count = pair[1] - block + 1;
                    for (sums, &block) in sums.iter().zip(&pair[..count]) {
                        self.offer_tile(block, sums, terms, own, kept);
                    }
                }
            }
        }
    }

    /// Offers the rows of a block that reach the thresholds of a group's queries.
    #[cfg(target_arch = "x86_64")]
    fn offer_tile(
        &self,
        block: usize,
        sums: &Sums,
        terms: &GroupTerms,
        queries: &[QueryCodes],
        kept: &mut [Kept],
    ) {
        let mut thresholds = [f32::INFINITY; tiles::GROUP];
        for (threshold, kept) in thresholds.iter_mut().zip(&*kept) {
            *threshold = kept.threshold;
        }
        let codes = self.codes;
        let rows = codes.rows(block);
        let reached = codes.reached_by_sums(block, sums, terms, &thresholds);
        for (number, (query, kept)) in queries.iter().zip(kept).enumerate() {
            let mut reached = reached[number];
            while reached != 0 {
                let lane = reached.trailing_zeros() as usize;
                reached &= reached - 1;
                let row = rows.start + lane;
                let (lower, upper) = codes.row_bounds(row, sums[number][lane], query);
                self.offer_row(row, rows.end, lower, upper, kept);
            }
        }
    }

    fn pass_group<const N: usize>(
        &self,
        blocks: Range<usize>,
        queries: [&QueryCodes; N],
        kept: &mut [Kept],
    ) {
        let mut next = blocks.start;
        while next + 2 <= blocks.end {
            self.pass_blocks::<N, 2>(next, queries, kept);
            next += 2;
        }
        if next < blocks.end {
            self.pass_blocks::<N, 1>(next, queries, kept);
        }
    }

    fn pass_blocks<const N: usize, const B: usize>(
        &self,
        first: usize,
        queries: [&QueryCodes; N],
        kept: &mut [Kept],
    ) {
        let thresholds = std::array::from_fn(|number| kept[number].threshold);
        let mut bounds = [[Bounds::default(); N]; B];
        let reached = self
            .codes
            .bounds(self.isa, first, queries, thresholds, &mut bounds);
        for (index, reached) in reached.iter().enumerate() {
            for (number, &reached) in reached.iter().enumerate() {
                if reached != 0 {
                    let bounds = &bounds[index][number];
                    self.offer(first + index, reached, bounds, &mut kept[number]);
                }
            }
        }
    }

    /// Offers the rows of a block that are marked in `reached`.
    fn offer(&self, block: usize, mut reached: u16, bounds: &Bounds, kept: &mut Kept) {
        let rows = self.codes.rows(block);
        while reached != 0 {
            let lane = reached.trailing_zeros() as usize;
            reached &= reached - 1;
            let (lower, upper) = (bounds.lower[lane], bounds.upper[lane]);
            self.offer_row(rows.start + lane, rows.end, lower, upper, kept);
        }
    }

    /// Offers a row that reached the threshold; it may have risen since, and the last block has rows
    /// that are none.
    #[inline]
    fn offer_row(&self, row: usize, end: usize, lower: f32, upper: f32, kept: &mut Kept) {
        if upper >= kept.threshold && row < end && self.rows.allows(self.allowed, row) {
            kept.offer(lower, upper, self.rows.ranks[row], row);
        }
    }
}

impl Kept {
    fn new(top_k: usize) -> Self {
        Self {
            lower: Best::new(top_k),
            threshold: f32::NEG_INFINITY,
            candidates: Vec::new(),
            limit: MANY,
        }
    }

    fn offer(&mut self, lower: f32, upper: f32, rank: u32, row: usize) {
        self.candidates.push((upper, row));
        let score = lower;
        self.lower.offer(Candidate { score, rank, row });
        self.threshold = self.lower.worst().unwrap_or(f32::NEG_INFINITY);
        if self.candidates.len() >= self.limit {
            self.clean();
            self.limit = MANY.max(2 * self.candidates.len());
        }
    }

    fn join(&mut self, other: Self) {
        self.lower.join(other.lower);
        self.candidates.extend(other.candidates);
        self.threshold = self.lower.worst().unwrap_or(f32::NEG_INFINITY);
    }

    fn clean(&mut self) {
        let threshold = self.threshold;
        self.candidates.retain(|(upper, _)| *upper >= threshold);
    }

    fn into_rows(mut self) -> Vec<usize> {
        self.clean();
        self.candidates.into_iter().map(|(_, row)| row).collect()
    }
}
