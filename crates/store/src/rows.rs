//! The packed rows and the exact scan over them: the part that memory and disk share.

mod sieve;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZero;
use std::ops::Range;
use std::thread;

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
    values: Vec<f32>,
    /// One a row; all different.
    ranks: Vec<u32>,
    codes: Codes,
}

impl Rows {
    pub(crate) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            values: Vec::new(),
            ranks: Vec::new(),
            codes: Codes::new(dimensions),
        }
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(crate) fn len(&self) -> usize {
        self.ranks.len()
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dimensions..(row + 1) * self.dimensions]
    }

    pub(crate) fn rank(&self, row: usize) -> u32 {
        self.ranks[row]
    }

    /// Replaces a row.
    pub(crate) fn set(&mut self, row: usize, vector: &[f32]) {
        self.values[row * self.dimensions..(row + 1) * self.dimensions].copy_from_slice(vector);
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
        self.codes
            .push(&self.values[(self.ranks.len() - 1) * self.dimensions..]);
    }

    /// The row with this rank, or where it would be: for rows in the order of their ranks only.
    pub(crate) fn row_of_rank(&self, rank: u32) -> Result<usize, usize> {
        self.ranks.binary_search(&rank)
    }

    /// Keeps the rows whose ranks are wanted, and their ranks.
    pub(crate) fn retain_ranks(&mut self, keep: impl Fn(u32) -> bool) {
        let ranks = self.ranks.clone();
        self.retain(|row| keep(ranks[row]).then_some(ranks[row]));
    }

    /// Keeps the rows for which `rank` says their new rank, in order.
    pub(crate) fn retain(&mut self, mut rank: impl FnMut(usize) -> Option<u32>) {
        let mut kept = 0;
        for row in 0..self.len() {
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
        self.values.truncate(kept * self.dimensions);
        self.ranks.truncate(kept);
        self.codes.truncate(kept);
    }

    /// The `top_k` rows closest to each query among the allowed ones: best first, equal scores by
    /// rank.
    pub(crate) fn search(
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
            if !allowed.contains(rank) {
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
        let sieve = Sieve::new(&self.codes, &self.ranks, queries, top_k, allowed);
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
                if self.allowed.contains(self.rows.ranks[next]) {
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
mod tests {
    use super::*;
    use crate::random::Random;

    const DIMENSIONS: usize = 5;

    /// Rows with few different values, so that many scores tie; ranks in a shuffled order.
    fn rows_with_ties(random: &mut Random, num_rows: usize) -> Rows {
        let mut rows = Rows::new(DIMENSIONS);
        let mut ranks: Vec<u32> = (0..num_rows as u32).collect();
        for left in (1..num_rows).rev() {
            ranks.swap(left, random.below(left + 1));
        }
        for rank in ranks {
            rows.push((0..DIMENSIONS).map(|_| random.below(3) as f32 - 1.0), rank);
        }
        rows
    }

    /// The definition: every score, sorted by score and rank.
    fn sorted(rows: &Rows, query: &[f32], top_k: usize, allowed: &Allowed) -> Nearest {
        let mut all: Vec<(f32, u32, usize)> = (0..rows.len())
            .filter(|&row| allowed.contains(rows.ranks[row]))
            .map(|row| {
                let score = rows
                    .row(row)
                    .iter()
                    .zip(query)
                    .map(|(a, b)| a * b)
                    .sum::<f32>();
                (score + 0.0, rows.ranks[row], row)
            })
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.into_iter()
            .take(top_k)
            .map(|(score, _, row)| (score, row))
            .collect()
    }

    #[test]
    fn scans_agree_with_sorting_for_any_isa_threads_batch_and_filter() {
        let mut random = Random::new(11);
        for num_rows in [0, 1, 63, 64, 65, 500] {
            let rows = rows_with_ties(&mut random, num_rows);
            let half = num_rows as u32 / 2;
            let ranges = vec![3..7, 20..20, 21..half.max(21)];
            let queries: Vec<Vec<f32>> = (0..7)
                .map(|_| (0..DIMENSIONS).map(|_| random.below(3) as f32).collect())
                .collect();
            let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
            for allowed in [
                Allowed::All,
                Allowed::Ranks(ranges),
                Allowed::Ranks(Vec::new()),
            ] {
                for (threads, top_k) in [(1, 0), (1, 1), (2, 10), (3, 1000)] {
                    let found = rows.search_sieved(threads, &queries, top_k, &allowed);
                    for (query, found) in queries.iter().zip(found) {
                        assert_eq!(found, sorted(&rows, query, top_k, &allowed));
                    }
                }
                for (isa, threads, top_k) in cases() {
                    let found = rows.search_on(isa, threads, &queries, top_k, &allowed);
                    for (query, found) in queries.iter().zip(found) {
                        // Small integers: every order of summation gives the same score.
                        assert_eq!(found, sorted(&rows, query, top_k, &allowed));
                        let alone = rows.search_on(isa, threads, &[query], top_k, &allowed);
                        assert_eq!(alone, [found]);
                    }
                }
            }
        }
    }

    fn cases() -> impl Iterator<Item = (Isa, usize, usize)> {
        let counts = [(1, 0), (1, 1), (2, 10), (3, 1000)];
        Isa::available().flat_map(move |isa| counts.map(|(threads, top_k)| (isa, threads, top_k)))
    }

    #[test]
    fn only_vectors_off_unit_length_are_scaled() {
        let unit = |vector: &[f32]| to_unit(vector, 2, "notes", &|| "it".into());
        assert_eq!(unit(&[0.6, 0.8]).unwrap(), None);
        assert_eq!(unit(&[3.0, 4.0]).unwrap(), Some(vec![0.6, 0.8]));
        assert_eq!(unit(&[f32::MAX, 0.0]).unwrap(), Some(vec![1.0, 0.0]));
        assert_eq!(unit(&[1e-45, 0.0]).unwrap(), Some(vec![1.0, 0.0]));
    }
}
