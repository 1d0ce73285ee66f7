//! The exact scan in f32.

use std::ops::Range;

use super::best::{Best, Candidate};
use super::{Allowed, Nearest, Rows, shares};
use crate::distance::GROUP;
use crate::isa::Isa;

/// Rows that one block of the scan covers: at 384 dimensions 96 KiB, which stays in L2 while all
/// queries of a batch pass over it.
const BLOCK: usize = 64;

impl Rows {
    /// [`Rows::search`] on a chosen instruction set and number of threads.
    pub(crate) fn search_on(
        &self,
        isa: Isa,
        threads: usize,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        if top_k == 0 || self.len() == 0 {
            return vec![Vec::new(); queries.len()];
        }
        let scan = Scan {
            rows: self,
            isa,
            queries,
            top_k,
            allowed,
        };
        let pass = |rows: Range<usize>| scan.run(rows);
        let all = shares(self.len(), threads, pass, |all, more| {
            for (best, more) in all.iter_mut().zip(more) {
                best.join(more);
            }
        });
        all.into_iter().map(Best::into_nearest).collect()
    }
}

/// One pass over some of the rows for all queries.
struct Scan<'a> {
    rows: &'a Rows,
    isa: Isa,
    queries: &'a [&'a [f32]],
    top_k: usize,
    allowed: &'a Allowed,
}

impl Scan<'_> {
    fn run(&self, rows: Range<usize>) -> Vec<Best> {
        let mut best: Vec<Best> = self.queries.iter().map(|_| Best::new(self.top_k)).collect();
        let mut block = Vec::with_capacity(BLOCK);
        let mut next = rows.start;
        while next < rows.end {
            block.clear();
            while next < rows.end && block.len() < BLOCK {
                if self.rows.allows(self.allowed, next) {
                    block.push(next);
                }
                next += 1;
            }
            self.score(&block, &mut best);
        }
        best
    }

    fn score(&self, block: &[usize], best: &mut [Best]) {
        let (groups, rest) = self.queries.as_chunks::<GROUP>();
        for (group, queries) in groups.iter().enumerate() {
            self.score_group(block, *queries, &mut best[group * GROUP..]);
        }
        let done = groups.len() * GROUP;
        for (query, best) in rest.iter().zip(best[done..].chunks_mut(1)) {
            self.score_group(block, [*query], best);
        }
    }

    fn score_group<const N: usize>(
        &self,
        block: &[usize],
        queries: [&[f32]; N],
        best: &mut [Best],
    ) {
        for &row in block {
            let scores = self.isa.dots(self.rows.row(row), queries);
            let rank = self.rows.ranks[row];
            for (score, best) in scores.into_iter().zip(&mut *best) {
                best.offer(Candidate { score, rank, row });
            }
        }
    }
}
