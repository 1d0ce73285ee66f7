//! Which rows can be among the best, told by the bounds of their int8 codes.

use std::ops::Range;
use std::thread;

use super::{Allowed, Best, Candidate, Rows};
use crate::codes::{Bounds, QueryCodes};

/// Queries that share one reading of two blocks: their sums and the blocks fit the 32 registers.
const GROUP: usize = 8;

/// Blocks that all queries pass over before the next ones: 96 KiB at 384 dimensions.
const BLOCKS: usize = 16;

/// Candidates that are kept before those that fell behind are dropped.
const MANY: usize = 1024;

/// One pass over the codes for all queries.
pub(super) struct Sieve<'a> {
    rows: &'a Rows,
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
        rows: &'a Rows,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &'a Allowed,
    ) -> Self {
        Self {
            rows,
            queries: queries.iter().map(|query| QueryCodes::new(query)).collect(),
            top_k,
            allowed,
        }
    }

    /// For each query the rows that can be among its best.
    pub(super) fn run(&self, threads: usize) -> Vec<Vec<usize>> {
        let blocks = self.rows.codes.blocks();
        let share = blocks.div_ceil(threads.max(1));
        let part = |index: usize| (index * share).min(blocks)..((index + 1) * share).min(blocks);
        let parts = thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|index| scope.spawn(move || self.pass(part(index))))
                .collect();
            let mut parts = vec![self.pass(part(0))];
            for other in others {
                parts.push(
                    other
                        .join()
                        .expect("the sieve does not panic; this is a bug"),
                );
            }
            parts
        });
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        for part in parts {
            for (kept, more) in all.iter_mut().zip(part) {
                kept.join(more);
            }
        }
        all.into_iter().map(Kept::into_rows).collect()
    }

    fn pass(&self, blocks: Range<usize>) -> Vec<Kept> {
        let mut kept: Vec<Kept> = self.queries.iter().map(|_| Kept::new(self.top_k)).collect();
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
        let codes = &self.rows.codes;
        let reached = codes.bounds(first, queries, thresholds, &mut bounds);
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
        let rows = self.rows.codes.rows(block);
        while reached != 0 {
            let lane = reached.trailing_zeros() as usize;
            reached &= reached - 1;
            let row = rows.start + lane;
            let (lower, upper) = (bounds.lower[lane], bounds.upper[lane]);
            // The threshold may have risen, and the last block has rows that are none.
            if upper >= kept.threshold && row < rows.end && self.rows.allows(self.allowed, row) {
                kept.offer(lower, upper, self.rows.ranks[row], row);
            }
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
        for candidate in other.lower.heap {
            self.lower.offer(candidate);
        }
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
