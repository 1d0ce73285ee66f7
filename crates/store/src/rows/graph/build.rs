//! Makes a graph, by Malkov and Yashunin (2016): each row is searched for among those before it and
//! linked to the best of what is found.

use std::num::NonZero;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::bytes::ByteRows;
use super::walk::{Found, Ground, Links, Walk};
use crate::rows::Rows;

/// Nodes that are linked by one thread: with so few, most searches would meet nodes that are being
/// linked themselves.
const FIRST: usize = 1000;

/// Locks that nodes share, by their number.
const LOCKS: usize = 1 << 12;

/// How a graph is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphOptions {
    /// Links of a row on each layer but the lowest, which has twice as many.
    pub m: usize,
    /// How many of the closest are looked at for the links of a row.
    pub ef_construction: usize,
}

impl Default for GraphOptions {
    /// What hnswlib's users know: 16 and 200.
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 200,
        }
    }
}

/// A graph that is being made.
pub(super) struct Builder<'a> {
    pub(super) bytes: &'a ByteRows,
    pub(super) m: usize,
    ef_construction: usize,
    /// `[rows, 1 + 2 m]`: how many links, and the links.
    pub(super) lowest: Vec<AtomicU32>,
    /// Of the rows that are on higher layers, `[layers, 1 + m]` each.
    pub(super) upper: Vec<AtomicU32>,
    /// Where a row's part of `upper` begins; the end of the last one's behind them.
    pub(super) offsets: Vec<u32>,
    locks: Vec<Mutex<()>>,
    /// The row that every search begins at, and its highest layer.
    entry: Mutex<(u32, usize)>,
}

impl Links for Builder<'_> {
    fn links(&self, row: u32, layer: usize, links: &mut Vec<u32>) {
        links.clear();
        let list = self.list(row, layer);
        // Another thread may be writing the list: a link more or less, but each of a row.
        let num_links = list[0].load(Ordering::Relaxed) as usize;
        let some = list[1..].iter().take(num_links);
        links.extend(some.map(|link| link.load(Ordering::Relaxed)));
    }
}

impl<'a> Builder<'a> {
    /// Links all rows.
    pub(super) fn run(bytes: &'a ByteRows, num_rows: usize, options: GraphOptions) -> Self {
        let m = options.m;
        let mut offsets = Vec::with_capacity(num_rows + 1);
        let mut end = 0;
        for row in 0..num_rows as u64 {
            offsets.push(end);
            end += (level(row, m) * (1 + m)) as u32;
        }
        offsets.push(end);
        let zeros = |len: usize| (0..len).map(|_| AtomicU32::new(0)).collect();
        let first_level = level(0, m);
        let builder = Self {
            bytes,
            m,
            ef_construction: options.ef_construction.max(m),
            lowest: zeros(num_rows * (1 + 2 * m)),
            upper: zeros(end as usize),
            offsets,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            entry: Mutex::new((0, first_level)),
        };
        builder.insert_all(num_rows);
        builder
    }

    pub(super) fn entry(&self) -> (u32, usize) {
        *lock(&self.entry)
    }

    fn insert_all(&self, num_rows: usize) {
        let next = AtomicUsize::new(1);
        let insert_up_to = |end: usize| {
            let mut walk = Walk::new(num_rows);
            loop {
                let row = next.fetch_add(1, Ordering::Relaxed);
                if row >= end {
                    break;
                }
                self.insert(row as u32, &mut walk);
            }
        };
        insert_up_to(FIRST.min(num_rows));
        next.store(FIRST, Ordering::Relaxed);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| insert_up_to(num_rows));
            }
            insert_up_to(num_rows);
        });
    }

    fn insert(&self, row: u32, walk: &mut Walk) {
        let level = self.level(row);
        // A row that becomes the entry keeps the lock: others see it with its links only.
        let guard = lock(&self.entry);
        let (entry, top) = *guard;
        let guard = (level > top).then_some(guard);
        let ground = Ground {
            graph: self,
            bytes: self.bytes,
            query: self.bytes.row(row),
        };
        let mut from = vec![ground.score(entry)];
        for layer in (level + 1..=top).rev() {
            from = walk.layer(ground, &from, layer, 1, |_| true);
        }
        for layer in (0..=level.min(top)).rev() {
            let ef = self.ef_construction;
            from = walk.layer(ground, &from, layer, ef, |_| true);
            from.retain(|found| found.row() != row);
            let chosen = self.choose(&from, self.m);
            self.set(row, layer, &chosen);
            for link in chosen {
                self.link_back(link, row, layer);
            }
        }
        if let Some(mut guard) = guard {
            *guard = (row, level);
        }
    }

    /// Of rows found, best first, those that are closer to the row searched for than to one chosen
    /// before: links into every direction, not only into the nearest heap.
    fn choose(&self, found: &[Found], most: usize) -> Vec<u32> {
        let mut chosen: Vec<u32> = Vec::with_capacity(most);
        for candidate in found {
            if chosen.len() == most {
                break;
            }
            let row = self.bytes.row(candidate.row());
            let is_near = |&other: &u32| {
                super::bytes::product(row, self.bytes.row(other)) > candidate.score()
            };
            if !chosen.iter().any(is_near) {
                chosen.push(candidate.row());
            }
        }
        chosen
    }

    fn link_back(&self, row: u32, to: u32, layer: usize) {
        let _guard = lock(&self.locks[row as usize % LOCKS]);
        let list = self.list(row, layer);
        let num_links = list[0].load(Ordering::Relaxed) as usize;
        if num_links < list.len() - 1 {
            list[1 + num_links].store(to, Ordering::Relaxed);
            list[0].store(num_links as u32 + 1, Ordering::Relaxed);
            return;
        }
        let own = self.bytes.row(row);
        let links = list[1..].iter().map(|link| link.load(Ordering::Relaxed));
        let mut found: Vec<Found> = links
            .chain([to])
            .map(|link| Found::new(super::bytes::product(own, self.bytes.row(link)), link))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        let chosen = self.choose(&found, list.len() - 1);
        self.store(list, &chosen);
    }

    fn set(&self, row: u32, layer: usize, links: &[u32]) {
        let _guard = lock(&self.locks[row as usize % LOCKS]);
        self.store(self.list(row, layer), links);
    }

    fn store(&self, list: &[AtomicU32], links: &[u32]) {
        for (place, link) in list[1..].iter().zip(links) {
            place.store(*link, Ordering::Relaxed);
        }
        list[0].store(links.len() as u32, Ordering::Relaxed);
    }

    fn level(&self, row: u32) -> usize {
        let row = row as usize;
        (self.offsets[row + 1] - self.offsets[row]) as usize / (1 + self.m)
    }

    fn list(&self, row: u32, layer: usize) -> &[AtomicU32] {
        if layer == 0 {
            let width = 1 + 2 * self.m;
            return &self.lowest[row as usize * width..(row as usize + 1) * width];
        }
        let first = self.offsets[row as usize] as usize + (layer - 1) * (1 + self.m);
        &self.upper[first..first + 1 + self.m]
    }
}

/// The highest layer of a row: layer l has a share of m⁻ˡ of the rows, chosen by their numbers.
fn level(row: u64, m: usize) -> usize {
    // The finaliser of SplitMix64 makes a number of the row's that looks like chance.
    let mut bits = row.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    let uniform = ((bits >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    ((-uniform.ln() / (m as f64).ln()) as usize).min(15)
}

/// The rows in int8, for all that are mapped.
pub(super) fn bytes_of(rows: &Rows) -> ByteRows {
    let mut bytes = ByteRows::new(rows.dimensions());
    let mut scratch = Vec::new();
    for row in 0..rows.base() {
        bytes.push(rows.row(row), &mut scratch);
    }
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
