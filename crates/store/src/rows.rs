//! The packed rows and the exact scan over them: the part that memory and disk share.

mod column;
mod sections;
pub(crate) mod file;
pub(crate) mod graph;
mod sieve;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZero;
use std::ops::Range;
use std::thread;

pub(crate) use self::column::Column;
use self::graph::Graph;
use self::sieve::Sieve;
use crate::codes::{Codes, has_vnni};
use crate::distance::{GROUP, Isa};
use crate::{ErrorKind, Result};

/// Rows that one block of the scan covers: at 384 dimensions 96 KiB, which stays in L2 while all
/// queries of a batch pass over it.
const BLOCK: usize = 64;

/// Products (rows × queries × dimensions) that make a second thread worth its start: about 2 ms of
/// one core's work, against some 50 µs to start a thread.
const PRODUCTS_PER_THREAD: usize = 1 << 23;

/// How far the squared length of a vector may be from 1 to be kept bit for bit. Normalising in f32
/// leaves less than 10⁻⁶; what is further off would be seen in the fourth digit of a score.
const UNIT_TOLERANCE: f64 = 1e-4;

/// From so many rows on they are sieved in int8 first; below, all of f32 lies in the cache.
const SIEVED_ROWS: usize = 4096;

/// A search for more than this share of all rows reads most of them in f32 anyway.
const SIEVED_SHARE: usize = 64;

/// A filter that lets through less than this share of the rows is answered exactly: a walk would
/// pass many rows for each that it may keep, and the few are scanned quickly.
const GRAPH_SHARE: f64 = 0.1;

/// For more results than this a walk is hardly quicker than the scan.
const GRAPH_TOP_K: usize = 256;

/// If more than one in so many rows came after the graph, all are scanned.
const GRAPH_BEHIND: usize = 8;

/// Walks that make a second thread worth its start: some 0.1 ms each.
const QUERIES_PER_THREAD: usize = 4;

/// The closest rows of one query: `(score, row)`, best first.
pub(crate) type Nearest = Vec<(f32, usize)>;

/// The rows that a search may look at.
#[derive(Clone, Debug)]
pub(crate) enum Allowed {
    All,
    /// Rows with a rank in one of these ranges, which are sorted and disjoint.
    Ranks(Vec<Range<u32>>),
}

impl Allowed {
    /// These ranks, which ascend.
    pub(crate) fn of(ranks: impl IntoIterator<Item = u32>) -> Self {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for rank in ranks {
            match ranges.last_mut() {
                Some(last) if last.end == rank => last.end += 1,
                _ => ranges.push(rank..rank + 1),
            }
        }
        Self::Ranks(ranges)
    }

    /// The part of `num_rows` rows that it may let through.
    fn share(&self, num_rows: usize) -> f64 {
        match self {
            Self::All => 1.0,
            Self::Ranks(ranges) => {
                let allowed: usize = ranges.iter().map(|range| range.len()).sum();
                allowed as f64 / num_rows.max(1) as f64
            }
        }
    }

    #[inline]
    pub(crate) fn contains(&self, rank: u32) -> bool {
        match self {
            Self::All => true,
            Self::Ranks(ranges) => {
                let after = ranges.partition_point(|range| range.start <= rank);
                after > 0 && ranges[after - 1].contains(&rank)
            }
        }
    }
}

/// Vectors side by side, each with a rank that orders rows of equal score.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    dimensions: usize,
    /// The first rows, mapped from a file: they keep their places when others leave.
    base: usize,
    values: Column<f32>,
    /// One a row; all different.
    ranks: Vec<u32>,
    /// The mapped rows that are no longer there.
    removed: Vec<bool>,
    codes: Codes,
    /// Over the mapped rows.
    graph: Option<Graph>,
}

impl Rows {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            codes: Codes::new(dimensions),
            ..Self::default()
        }
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// All rows, those that were removed from the mapped part included.
    pub(crate) fn len(&self) -> usize {
        self.ranks.len()
    }

    /// The rows in the mapped part.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// The rows that a search can find.
    pub(crate) fn num_live(&self) -> usize {
        self.len() - self.removed.iter().filter(|removed| **removed).count()
    }

    #[inline]
    pub(crate) fn is_live(&self, row: usize) -> bool {
        row >= self.base || !self.removed[row]
    }

    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        self.values
            .get(row * self.dimensions..(row + 1) * self.dimensions)
    }

    pub(crate) fn rank(&self, row: usize) -> u32 {
        self.ranks[row]
    }

    #[inline]
    fn allows(&self, allowed: &Allowed, row: usize) -> bool {
        self.is_live(row) && allowed.contains(self.ranks[row])
    }

    /// Replaces a row.
    pub(crate) fn set(&mut self, row: usize, vector: &[f32]) {
        let place = row * self.dimensions..(row + 1) * self.dimensions;
        self.values.get_mut(place).copy_from_slice(vector);
        self.codes.set(row, vector);
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        self.values.reserve_exact(additional * self.dimensions);
        self.ranks.reserve_exact(additional);
        self.codes.reserve(additional);
    }

    pub(crate) fn push(&mut self, values: impl IntoIterator<Item = f32>, rank: u32) {
        self.values.extend(values);
        self.ranks.push(rank);
        debug_assert_eq!(self.values.len(), self.ranks.len() * self.dimensions);
        let first = (self.ranks.len() - 1) * self.dimensions;
        self.codes
            .push(self.values.get(first..first + self.dimensions));
    }

    /// The row with this rank, or where it would be: for rows in the order of their ranks only.
    pub(crate) fn row_of_rank(&self, rank: u32) -> Result<usize, usize> {
        self.ranks.binary_search(&rank)
    }

    /// Keeps the rows whose ranks are wanted, and their ranks.
    pub(crate) fn retain_ranks(&mut self, keep: impl Fn(u32) -> bool) {
        let ranks = self.ranks.clone();
        let removed = self.removed.clone();
        self.retain(|row| {
            let is_live = !removed.get(row).copied().unwrap_or(false);
            (is_live && keep(ranks[row])).then_some(ranks[row])
        });
    }

    /// Keeps the rows for which `rank` says their new rank, in order. Mapped rows that go leave
    /// their places empty.
    pub(crate) fn retain(&mut self, mut rank: impl FnMut(usize) -> Option<u32>) {
        for row in 0..self.base {
            let rank = rank(row);
            self.removed[row] = rank.is_none();
            self.ranks[row] = rank.unwrap_or(self.ranks[row]);
        }
        let mut kept = self.base;
        for row in self.base..self.len() {
            let Some(rank) = rank(row) else { continue };
            let from = row * self.dimensions;
            self.values
                .copy_within(from..from + self.dimensions, kept * self.dimensions);
            self.ranks[kept] = rank;
            if kept != row {
                self.codes.copy(row, kept);
            }
            kept += 1;
        }
        self.values.resize(kept * self.dimensions, 0.0);
        self.ranks.truncate(kept);
        self.codes.truncate(kept);
    }

    /// The same rows in memory without those that were removed.
    fn compacted(&self) -> Self {
        let mut compact = Self::new(self.dimensions);
        compact.reserve(self.num_live());
        for row in (0..self.len()).filter(|&row| self.is_live(row)) {
            compact.push(self.row(row).iter().copied(), self.ranks[row]);
        }
        compact
    }

    /// Searches through this graph of the mapped rows from now on.
    pub(crate) fn set_graph(&mut self, graph: Option<Graph>) {
        self.graph = graph;
    }

    /// The `top_k` rows closest to each query among the allowed ones: best first, equal scores by
    /// rank. All of them, or nearly all if there is a graph and it is quicker.
    pub(crate) fn search(
        &self,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        let share = allowed.share(self.len());
        let behind = self.len() - self.base;
        match &self.graph {
            Some(graph)
                if share >= GRAPH_SHARE
                    && top_k <= GRAPH_TOP_K
                    && behind <= self.base / GRAPH_BEHIND =>
            {
                let search = |query: &&[f32]| graph.search(self, query, top_k, share, allowed);
                in_parallel(queries, &search)
            }
            _ => self.search_exact(queries, top_k, allowed),
        }
    }

    /// The `top_k` rows closest to each query among the allowed ones: best first, equal scores by
    /// rank.
    pub(crate) fn search_exact(
        &self,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        let products = self.len() * self.dimensions * queries.len();
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = cores.min(1 + products / PRODUCTS_PER_THREAD);
        let few = top_k.saturating_mul(SIEVED_SHARE) <= self.len();
        if few && self.len() >= SIEVED_ROWS && has_vnni() {
            return self.search_sieved(threads, queries, top_k, allowed);
        }
        self.search_on(Isa::best(), threads, queries, top_k, allowed)
    }

    /// The same search by another `score` of row and query than their product.
    pub(crate) fn search_by(
        &self,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
        score: impl Fn(&[f32], &[f32]) -> f32,
    ) -> Vec<Nearest> {
        if top_k == 0 {
            return vec![Vec::new(); queries.len()];
        }
        let mut best: Vec<Best> = queries.iter().map(|_| Best::new(top_k)).collect();
        for (row, &rank) in self.ranks.iter().enumerate() {
            if !self.allows(allowed, row) {
                continue;
            }
            for (query, best) in queries.iter().zip(&mut best) {
                let score = score(self.row(row), query);
                best.offer(Candidate { score, rank, row });
            }
        }
        best.into_iter().map(Best::into_nearest).collect()
    }

    /// The same search, by int8 first: only rows that can be among the best are read in f32.
    fn search_sieved(
        &self,
        threads: usize,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        if top_k == 0 || self.len() == 0 {
            return vec![Vec::new(); queries.len()];
        }
        let sieve = Sieve::new(self, queries, top_k, allowed);
        let isa = Isa::best();
        let score = |(query, rows): (&&[f32], Vec<usize>)| {
            let mut best = Best::new(top_k);
            for row in rows {
                let [score] = isa.dots(self.row(row), [query]);
                let rank = self.ranks[row];
                best.offer(Candidate { score, rank, row });
            }
            best.into_nearest()
        };
        queries.iter().zip(sieve.run(threads)).map(score).collect()
    }

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
        let share = self.len().div_ceil(threads.max(1));
        let mut parts = thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|part| {
                    let scan = &scan;
                    scope.spawn(move || scan.run(scan.share(part, share)))
                })
                .collect();
            let mut parts = vec![scan.run(scan.share(0, share))];
            for other in others {
                parts.push(
                    other
                        .join()
                        .expect("the scan does not panic; this is a bug"),
                );
            }
            parts
        });
        let mut all = parts.remove(0);
        for part in parts {
            for (best, more) in all.iter_mut().zip(part) {
                for candidate in more.heap {
                    best.offer(candidate);
                }
            }
        }
        all.into_iter().map(Best::into_nearest).collect()
    }
}

/// The answers to all queries, on all cores if there are enough of them.
fn in_parallel(queries: &[&[f32]], search: &(impl Fn(&&[f32]) -> Nearest + Sync)) -> Vec<Nearest> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(queries.len() / QUERIES_PER_THREAD).max(1);
    let share = queries.len().div_ceil(threads).max(1);
    let mut shares = queries.chunks(share);
    let own = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let others: Vec<_> = shares
            .map(|share| scope.spawn(move || share.iter().map(search).collect::<Vec<_>>()))
            .collect();
        let mut found: Vec<Nearest> = own.iter().map(search).collect();
        for other in others {
            let more = other.join();
            found.extend(more.expect("a walk does not panic; this is a bug"));
        }
        found
    })
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
    fn share(&self, part: usize, share: usize) -> Range<usize> {
        let rows = self.rows.len();
        (part * share).min(rows)..((part + 1) * share).min(rows)
    }

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

/// The best candidates so far; the worst of them lies on top of the heap.
struct Best {
    top_k: usize,
    heap: BinaryHeap<Candidate>,
}

impl Best {
    fn new(top_k: usize) -> Self {
        Self {
            top_k,
            heap: BinaryHeap::new(),
        }
    }

    #[inline]
    fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.top_k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// The worst score of a full heap: what a further row must reach.
    fn worst(&self) -> Option<f32> {
        let worst = self.heap.peek()?;
        (self.heap.len() == self.top_k).then_some(worst.score)
    }

    fn into_nearest(self) -> Nearest {
        let sorted = self.heap.into_sorted_vec();
        sorted
            .into_iter()
            .map(|candidate| (candidate.score, candidate.row))
            .collect()
    }
}

/// A row with its score; the smaller is the better one.
struct Candidate {
    score: f32,
    rank: u32,
    row: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.rank.cmp(&other.rank))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Refuses a vector of the wrong width, or with NaN or infinity.
pub(crate) fn check_vector(
    vector: &[f32],
    dimensions: usize,
    collection: &str,
    subject: &dyn Fn() -> String,
) -> Result<()> {
    if vector.len() != dimensions {
        return Err(ErrorKind::Width {
            collection: collection.into(),
            subject: subject(),
            expected: dimensions,
            received: vector.len(),
        }
        .into());
    }
    if let Some(index) = vector.iter().position(|value| !value.is_finite()) {
        return Err(ErrorKind::NotFinite {
            subject: subject(),
            index,
            value: vector[index],
        }
        .into());
    }
    Ok(())
}

/// Refuses a vector of the wrong width, or with NaN, infinity or nothing but zeros; `None` if it
/// has unit length and can be taken as it is, otherwise the vector at unit length.
pub(crate) fn to_unit(
    vector: &[f32],
    dimensions: usize,
    collection: &str,
    subject: &dyn Fn() -> String,
) -> Result<Option<Vec<f32>>> {
    check_vector(vector, dimensions, collection, subject)?;
    // In f64 no finite f32 can overflow or vanish when it is squared.
    let squared: f64 = vector
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum();
    if squared == 0.0 {
        return Err(ErrorKind::ZeroVector { subject: subject() }.into());
    }
    if (squared - 1.0).abs() <= UNIT_TOLERANCE {
        return Ok(None);
    }
    let scale = squared.sqrt().recip();
    Ok(Some(
        vector
            .iter()
            .map(|&value| (f64::from(value) * scale) as f32)
            .collect(),
    ))
}

#[cfg(test)]
mod tests;
