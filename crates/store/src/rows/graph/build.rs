//! Makes a graph, by Malkov and Yashunin (2016): each row is searched for among those before it and
//! linked to the best of what is found.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::bytes::ByteRows;
use super::walk::{Found, Ground, Links, Walk};
use super::{Earlier, Work};
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
    /// Links all rows, beginning with the links of an earlier graph; `None` if the work was stopped.
    pub(super) fn run(
        bytes: &'a ByteRows,
        num_rows: usize,
        options: GraphOptions,
        earlier: Option<&Earlier<'_>>,
        work: Work<'_>,
    ) -> Option<Self> {
        let m = options.m;
        let mut levels: Vec<usize> = (0..num_rows as u64).map(|row| level(row, m)).collect();
        for (old, new) in earlier.into_iter().flat_map(Earlier::kept) {
            levels[new as usize] = earlier.map_or(0, |earlier| earlier.graph.level(old));
        }
        let mut offsets = Vec::with_capacity(num_rows + 1);
        let mut end = 0;
        for level in &levels {
            offsets.push(end);
            end += (level * (1 + m)) as u32;
        }
        offsets.push(end);
        let zeros = |len: usize| (0..len).map(|_| AtomicU32::new(0)).collect();
        let builder = Self {
            bytes,
            m,
            ef_construction: options.ef_construction.max(m),
            lowest: zeros(num_rows * (1 + 2 * m)),
            upper: zeros(end as usize),
            offsets,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            entry: Mutex::new((0, levels[0])),
        };
        let done = match earlier {
            None => builder.insert_all(num_rows, work),
            Some(earlier) => builder.take_over(earlier, work) && builder.insert_new(earlier, work),
        };
        done.then_some(builder)
    }

    pub(super) fn entry(&self) -> (u32, usize) {
        *lock(&self.entry)
    }

    fn insert_all(&self, num_rows: usize, work: Work<'_>) -> bool {
        let first: Vec<u32> = (1..FIRST.min(num_rows) as u32).collect();
        let rest: Vec<u32> = (FIRST as u32..num_rows as u32).collect();
        let one = Work { threads: 1, ..work };
        self.insert_each(&first, one) && self.insert_each(&rest, work)
    }

    /// Links these rows; false if the work was stopped.
    fn insert_each(&self, rows: &[u32], work: Work<'_>) -> bool {
        self.on_each(rows, work, |row, walk| self.insert(row, walk))
    }

    fn on_each(&self, rows: &[u32], work: Work<'_>, with: impl Fn(u32, &mut Walk) + Sync) -> bool {
        let next = AtomicUsize::new(0);
        let run = || {
            let mut walk = Walk::new(self.offsets.len() - 1);
            while !work.stop.load(Ordering::Relaxed)
                && let Some(&row) = rows.get(next.fetch_add(1, Ordering::Relaxed))
            {
                with(row, &mut walk);
            }
        };
        thread::scope(|scope| {
            for _ in 1..work.threads {
                scope.spawn(run);
            }
            run();
        });
        !work.stop.load(Ordering::Relaxed)
    }

    /// Takes the links of the rows that stayed. Who has lost some to rows that are gone gets in their
    /// place the best of what those were linked to.
    fn take_over(&self, earlier: &Earlier<'_>, work: Work<'_>) -> bool {
        let kept: Vec<(u32, u32)> = earlier.kept().collect();
        let highest = kept
            .iter()
            .map(|(_, new)| *new)
            .max_by_key(|&new| self.level(new));
        if let Some(row) = highest {
            *lock(&self.entry) = (row, self.level(row));
        }
        let mut old_of = vec![u32::MAX; self.offsets.len() - 1];
        for (old, new) in &kept {
            old_of[*new as usize] = *old;
        }
        let rows: Vec<u32> = kept.into_iter().map(|(_, new)| new).collect();
        self.on_each(&rows, work, |row, _| {
            for layer in 0..=self.level(row) {
                self.take_links(earlier, old_of[row as usize], row, layer);
            }
        })
    }

    fn take_links(&self, earlier: &Earlier<'_>, old: u32, row: u32, layer: usize) {
        let (mut links, mut others) = (Vec::new(), Vec::new());
        earlier.graph.links(old, layer, &mut links);
        let mut stayed: Vec<u32> = Vec::with_capacity(links.len());
        let mut heirs: Vec<u32> = Vec::new();
        for link in links {
            match earlier.new_of(link) {
                Some(new) => stayed.push(new),
                None => {
                    earlier.graph.links(link, layer, &mut others);
                    heirs.extend(others.iter().filter_map(|&other| earlier.new_of(other)));
                }
            }
        }
        if !heirs.is_empty() {
            heirs.extend(&stayed);
            heirs.sort_unstable();
            heirs.dedup();
            heirs.retain(|&heir| heir != row);
            let own = self.bytes.row(row);
            let product = |heir| super::bytes::product(own, self.bytes.row(heir));
            let found = heirs
                .into_iter()
                .map(|heir| Found::new(product(heir), heir));
            let mut found: Vec<Found> = found.collect();
            found.sort_unstable_by(|a, b| b.cmp(a));
            stayed = self.choose(&found, self.list(row, layer).len() - 1);
        }
        self.set(row, layer, &stayed);
    }

    fn insert_new(&self, earlier: &Earlier<'_>, work: Work<'_>) -> bool {
        let mut is_new = vec![true; self.offsets.len() - 1];
        for (_, new) in earlier.kept() {
            is_new[new as usize] = false;
        }
        let new = (0..is_new.len() as u32).filter(|&row| is_new[row as usize]);
        self.insert_each(&new.collect::<Vec<_>>(), work)
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
    let mut bytes = ByteRows::new(rows.dimensions(), rows.base());
    let mut scratch = Vec::new();
    for row in 0..rows.base() {
        bytes.set(row, rows.row(row), &mut scratch);
    }
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
