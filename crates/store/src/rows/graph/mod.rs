//! A graph over the mapped rows (HNSW, Malkov and Yashunin 2016), for collections so large that
//! reading all codes takes too long.
//!
//! `bytes` has the rows in int8, `walk` goes through a layer, `build` makes the graph. It lies in a
//! file beside that of the packed rows and is mapped like it: nothing is parsed. It is a graph of
//! the mapped rows alone. Rows that came later are scanned exactly, rows that left are passed
//! through, and what is found is scored in f32; so a graph grows old without being wrong. When the
//! rows are packed again, those that stayed keep their links and only the new ones are searched for.
//!
//! Why not a crate: see `bench/store/README.md`, which has the figures.

mod bytes;
mod walk;
mod build;

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use self::build::Builder;
pub use self::build::GraphOptions;
use self::bytes::{ByteRow, ByteRows};
use self::walk::{Found, Ground, Links, Walk};
use super::column::{Column, Section};
use super::sections::{self, Header, Mapped, bytes_of};
use super::{Allowed, Nearest, Rows, Sample, in_parallel};

/// With the version of the layout.
const MAGIC: [u8; 8] = *b"WENYIGR1";

/// Recalls are kept in millionths.
const MILLION: f64 = 1e6;

/// What a graph is and how much it finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphInfo {
    /// Links of a row on each layer but the lowest, which has twice as many.
    pub m: usize,
    /// How many of the closest were looked at for the links of a row.
    pub ef_construction: usize,
    /// How many of the closest a search keeps on its way.
    pub ef_search: usize,
    /// The rows in the graph.
    pub num_rows: usize,
    /// Of the ten closest rows of the collection's own vectors, how many a search finds: measured
    /// on a sample when the graph was made.
    pub recall_at_10: f64,
}

impl GraphInfo {
    /// What a graph like it is made with.
    #[must_use]
    pub fn options(&self) -> GraphOptions {
        GraphOptions {
            m: self.m,
            ef_construction: self.ef_construction,
        }
    }
}

thread_local! {
    /// A thread's walks one after the other: a new one would take its room from the system.
    static WALK: RefCell<Walk> = RefCell::new(Walk::new(0));
}

/// How a graph is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) threads: usize,
    /// Set by whoever does not want the graph any more.
    pub(crate) stop: &'a AtomicBool,
}

/// The graph of an earlier state of the rows.
#[derive(Debug)]
pub(crate) struct Earlier<'a> {
    graph: &'a Graph,
    /// The place of each of its rows now; `u32::MAX` if it is gone.
    places: Vec<u32>,
}

impl<'a> Earlier<'a> {
    /// The ids, ascending, of its rows and of those that are there now; no vector has changed under
    /// its id.
    pub(crate) fn new(graph: &'a Graph, old_ids: &[i64], ids: &[i64]) -> Self {
        let place = |id: &i64| ids.binary_search(id).map_or(u32::MAX, |place| place as u32);
        let places = old_ids.iter().map(place).collect();
        Self { graph, places }
    }

    /// True if it can be brought up to date in less time than made anew, and as good.
    fn is_worth(&self, options: GraphOptions, num_rows: usize) -> bool {
        let stayed = self.kept().count();
        self.graph.info.options() == options
            && self.places.len() == self.graph.info.num_rows
            && 2 * stayed >= num_rows
            && 3 * stayed >= 2 * self.places.len()
    }

    /// The rows that stayed: `(old, new)`.
    fn kept(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let places = (0..).zip(self.places.iter().copied());
        places.filter(|(_, new)| *new != u32::MAX)
    }

    fn new_of(&self, old: u32) -> Option<u32> {
        let new = self.places.get(old as usize).copied();
        new.filter(|new| *new != u32::MAX)
    }
}

/// A graph over the first rows of a collection.
#[derive(Debug)]
pub(crate) struct Graph {
    info: GraphInfo,
    /// Where a search begins, and its highest layer.
    entry: (u32, usize),
    bytes: ByteRows,
    /// As in [`Builder`].
    lowest: Column<u32>,
    upper: Column<u32>,
    offsets: Column<u32>,
}

impl Links for Graph {
    #[inline]
    fn links(&self, row: u32, layer: usize, links: &mut Vec<u32>) {
        let (m, row) = (self.info.m, row as usize);
        links.clear();
        let list = if layer == 0 {
            self.lowest.get(row * (1 + 2 * m)..(row + 1) * (1 + 2 * m))
        } else {
            let first = self.offsets.get(row..row + 1)[0] as usize + (layer - 1) * (1 + m);
            // What a damaged file says must not lead out of it, here and below.
            if first + 1 + m > self.upper.len() {
                return;
            }
            self.upper.get(first..first + 1 + m)
        };
        let num_rows = self.info.num_rows;
        let some = list[1..].iter().take(list[0] as usize);
        links.extend(some.copied().filter(|&link| (link as usize) < num_rows));
    }
}

impl Graph {
    /// Makes a graph of the mapped rows, out of an earlier one if most of it can stay; `None` if the
    /// work was stopped.
    pub(crate) fn build(
        rows: &Rows,
        options: GraphOptions,
        earlier: Option<&Earlier<'_>>,
        work: Work<'_>,
    ) -> Option<Self> {
        let earlier = earlier.filter(|earlier| earlier.is_worth(options, rows.base()));
        let bytes = build::bytes_of(rows);
        let num_rows = rows.base();
        let builder = Builder::run(&bytes, num_rows, options, earlier, work)?;
        let entry = builder.entry();
        let to_column = |list: Vec<std::sync::atomic::AtomicU32>| {
            let mut column = Column::default();
            column.extend(list.into_iter().map(|link| link.into_inner()));
            column
        };
        let Builder {
            lowest,
            upper,
            offsets: starts,
            ..
        } = builder;
        let mut offsets = Column::default();
        offsets.extend(starts);
        Some(Self {
            info: GraphInfo {
                m: options.m,
                ef_construction: options.ef_construction,
                ef_search: 0,
                num_rows,
                recall_at_10: 0.0,
            },
            entry,
            lowest: to_column(lowest),
            upper: to_column(upper),
            offsets,
            bytes,
        })
    }

    /// The highest layer of a row.
    fn level(&self, row: u32) -> usize {
        let row = row as usize;
        let ends = self.offsets.get(row..row + 2);
        ends[1].saturating_sub(ends[0]) as usize / (1 + self.info.m)
    }

    pub(crate) fn info(&self) -> GraphInfo {
        self.info
    }

    /// Chooses the smallest `ef_search` whose recall reaches `target` on a sample of the rows, and
    /// notes what it reaches.
    pub(crate) fn tune(&mut self, rows: &Rows, target: f64) {
        let sample = Sample::of(rows);
        for ef_search in [24, 32, 48, 64, 96, 128, 192, 256, 384, 512] {
            self.info.ef_search = ef_search;
            let search =
                |query: &&[f32]| self.search(rows, query, Sample::TOP_K, 1.0, &Allowed::All);
            let recall = sample.recall(&in_parallel(&sample.queries, &search));
            self.info.recall_at_10 = (recall * MILLION).floor() / MILLION;
            if self.info.recall_at_10 >= target {
                break;
            }
        }
    }

    /// About the `top_k` rows closest to a query among the allowed ones, which are this share of
    /// all: those of the graph that it finds, and those behind it exactly.
    pub(super) fn search(
        &self,
        rows: &Rows,
        query: &[f32],
        top_k: usize,
        share: f64,
        allowed: &Allowed,
    ) -> Nearest {
        let ef = self.info.ef_search.max(2 * top_k);
        // Of the rows on the way only a share is wanted.
        let ef = (ef as f64 / share.max(0.01)).ceil().min(ef as f64 * 4.0) as usize;
        let mut codes = Vec::new();
        let (scale, sum) = bytes::quantise(query, &mut codes);
        let packed = ByteRow {
            codes: &codes,
            scale,
            sum,
        };
        WALK.with_borrow_mut(|walk| {
            walk.reach(self.info.num_rows);
            self.walk(walk, rows, query, packed, (top_k, ef), allowed)
        })
    }

    fn walk(
        &self,
        walk: &mut Walk,
        rows: &Rows,
        query: &[f32],
        packed: ByteRow<'_>,
        (top_k, ef): (usize, usize),
        allowed: &Allowed,
    ) -> Nearest {
        let ground = Ground {
            graph: self,
            bytes: &self.bytes,
            query: packed,
        };
        let (entry, top) = self.entry;
        let mut from = vec![ground.score(entry)];
        for layer in (1..=top).rev() {
            from = walk.layer(ground, &from, layer, 1, |_| true);
        }
        let wanted = |row: u32| rows.allows(allowed, row as usize);
        let found = walk.layer(ground, &from, 0, ef, wanted);
        let behind = (rows.base()..rows.len()).filter(|&row| rows.allows(allowed, row));
        let found = found.into_iter().map(|found: Found| found.row() as usize);
        rows.best_of(query, top_k, found.chain(behind))
    }

    /// Writes the graph of the packed rows with this token to `path`.
    pub(crate) fn write(&self, path: &Path, token: i64) -> io::Result<()> {
        let info = self.info;
        let header = Header {
            magic: MAGIC,
            token,
            fields: [
                self.bytes.width as u64,
                info.num_rows as u64,
                info.m as u64,
                info.ef_construction as u64,
                info.ef_search as u64,
                (info.recall_at_10 * MILLION).round() as u64,
                u64::from(self.entry.0) << 8 | self.entry.1 as u64,
                self.upper.len() as u64,
            ],
        };
        let bytes = &self.bytes;
        sections::write(
            path,
            &header,
            &[
                &bytes.codes.parts(),
                &bytes.scales.parts().map(bytes_of),
                &bytes.sums.parts().map(bytes_of),
                &self.lowest.parts().map(bytes_of),
                &self.upper.parts().map(bytes_of),
                &self.offsets.parts().map(bytes_of),
            ],
        )
    }

    /// The graph at `path`; `None` if there is none of the packed rows with this token.
    pub(crate) fn read(path: &Path, token: i64, rows: &Rows) -> Option<Self> {
        let mapped = Mapped::open(path, MAGIC, token)?;
        let mut numbers = [0; sections::NUM_FIELDS];
        for (number, field) in numbers.iter_mut().zip(mapped.header.fields) {
            *number = usize::try_from(field).ok()?;
        }
        let [
            width,
            num_rows,
            m,
            ef_construction,
            ef_search,
            recall,
            entry,
            upper,
        ] = numbers;
        let fits = (width, num_rows) == (bytes::padded(rows.dimensions()), rows.base());
        (fits && m > 0 && entry >> 8 < num_rows).then_some(())?;
        let column = |section: Option<Section<u32>>| section.map(Column::mapped);
        let graph = Self {
            info: GraphInfo {
                m,
                ef_construction,
                ef_search,
                num_rows,
                recall_at_10: recall as f64 / MILLION,
            },
            entry: ((entry >> 8) as u32, entry & 0xFF),
            bytes: ByteRows {
                width,
                codes: Column::mapped(mapped.section(0, num_rows.checked_mul(width)?)?),
                scales: Column::mapped(mapped.section(1, num_rows)?),
                sums: Column::mapped(mapped.section(2, num_rows)?),
            },
            lowest: column(mapped.section(3, num_rows.checked_mul(1 + 2 * m)?))?,
            upper: column(mapped.section(4, upper))?,
            offsets: column(mapped.section(5, num_rows + 1))?,
        };
        let offsets = graph.offsets.get(0..num_rows + 1);
        let ascend = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        (ascend && offsets[num_rows] as usize == upper).then_some(graph)
    }

    /// Reads the whole file and says whether it is what was written; true without one of this
    /// token, for then nobody reads one.
    pub(crate) fn verify(path: &Path, token: i64) -> bool {
        Mapped::open(path, MAGIC, token).is_none_or(|mapped| mapped.is_sound())
    }
}

#[cfg(test)]
mod tests;
