//! The packed rows and the exact scan over them: the part that memory and disk share.

mod column;
mod sections;
mod best;
pub(crate) mod file;
mod scan;
mod sieve;
pub(crate) mod coarse;
pub(crate) mod graph;
mod sample;

use std::num::NonZero;
use std::ops::Range;
use std::thread;

use self::best::{Best, Candidate};
use self::coarse::Coarse;
pub(crate) use self::column::Column;
use self::graph::Graph;
use self::sample::Sample;
use self::sieve::Sieve;
use crate::codes::Codes;
use crate::isa::Isa;
use crate::{ErrorKind, Result};

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
const INDEX_SHARE: f64 = 0.1;

/// For more results than this a walk is hardly quicker than the scan.
const GRAPH_TOP_K: usize = 256;

/// If the coarse form named more than one in so many rows, all are scanned.
const COARSE_PART: usize = 8;

/// If more than one in so many rows came after the index, all are scanned.
const INDEX_BEHIND: usize = 8;

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
    index: Option<Index>,
}

/// A quicker way to nearly all of the closest rows.
#[derive(Debug)]
pub(crate) enum Index {
    /// Through links from row to row.
    Graph(Graph),
    /// By a coarse form of the rows.
    Coarse(Coarse),
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

    /// Searches through this index of the mapped rows from now on.
    pub(crate) fn set_index(&mut self, index: Option<Index>) {
        self.index = index;
    }

    pub(crate) fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// The `top_k` rows closest to each query among the allowed ones: best first, equal scores by
    /// rank. All of them, or nearly all if there is an index and it is quicker.
    pub(crate) fn search(
        &self,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        let share = allowed.share(self.len());
        let behind = self.len() - self.base;
        let pays = share >= INDEX_SHARE && behind <= self.base / INDEX_BEHIND;
        match &self.index {
            Some(Index::Graph(graph)) if pays && top_k <= GRAPH_TOP_K => {
                let search = |query: &&[f32]| graph.search(self, query, top_k, share, allowed);
                in_parallel(queries, &search)
            }
            Some(Index::Coarse(coarse))
                if pays && coarse.num_candidates(top_k, share) <= self.base / COARSE_PART =>
            {
                let threads = self.threads(queries.len());
                coarse.search(self, threads, queries, top_k, allowed)
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
        let threads = self.threads(queries.len());
        let few = top_k.saturating_mul(SIEVED_SHARE) <= self.len();
        let isa = Isa::best();
        if few && self.len() >= SIEVED_ROWS && isa.has_byte_products() {
            return self.search_sieved(isa, threads, queries, top_k, allowed);
        }
        self.search_on(isa, threads, queries, top_k, allowed)
    }

    /// Threads that are worth their start for so many queries.
    fn threads(&self, num_queries: usize) -> usize {
        let products = self.len() * self.dimensions * num_queries;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        cores.min(1 + products / PRODUCTS_PER_THREAD)
    }

    /// The `top_k` best of these rows, in f32.
    fn best_of(
        &self,
        query: &[f32],
        top_k: usize,
        rows: impl IntoIterator<Item = usize>,
    ) -> Nearest {
        let isa = Isa::best();
        let mut best = Best::new(top_k);
        for row in rows {
            let [score] = isa.dots(self.row(row), [query]);
            let rank = self.ranks[row];
            best.offer(Candidate { score, rank, row });
        }
        best.into_nearest()
    }

    /// [`Rows::best_of`] the rows that are named for each query.
    fn best_of_each(
        &self,
        threads: usize,
        queries: &[&[f32]],
        top_k: usize,
        named: &[Vec<usize>],
    ) -> Vec<Nearest> {
        let threads = threads.min(queries.len() / QUERIES_PER_THREAD).max(1);
        let pass = |some: Range<usize>| -> Vec<Nearest> {
            let best =
                |query: usize| self.best_of(queries[query], top_k, named[query].iter().copied());
            some.map(best).collect()
        };
        shares(queries.len(), threads, pass, |all, more| all.extend(more))
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
        isa: Isa,
        threads: usize,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        if top_k == 0 || self.len() == 0 {
            return vec![Vec::new(); queries.len()];
        }
        let sieve = Sieve::new(isa, self, &self.codes, queries, top_k, allowed);
        self.best_of_each(threads, queries, top_k, &sieve.run(threads))
    }
}

/// What `pass` says of `len` things, each thread with a share of them.
fn shares<T: Send>(
    len: usize,
    threads: usize,
    pass: impl Fn(Range<usize>) -> T + Sync,
    join: impl Fn(&mut T, T),
) -> T {
    let threads = threads.max(1);
    let share = len.div_ceil(threads);
    let part = |index: usize| (index * share).min(len)..((index + 1) * share).min(len);
    thread::scope(|scope| {
        let pass = &pass;
        let others: Vec<_> = (1..threads)
            .map(|index| scope.spawn(move || pass(part(index))))
            .collect();
        let mut all = pass(part(0));
        for other in others {
            let more = other.join();
            join(
                &mut all,
                more.expect("a pass does not panic; this is a bug"),
            );
        }
        all
    })
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
