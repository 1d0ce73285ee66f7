//! The walk through a layer of a graph: from the best row known to its links, and on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bytes::{ByteRow, ByteRows, product};

/// Whatever knows the links of rows.
pub(super) trait Links {
    /// Writes the links of a row on a layer to `links`.
    fn links(&self, row: u32, layer: usize, links: &mut Vec<u32>);
}

/// A row with its score; the greater is the better, of equals the one with the smaller number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found(u64);

impl Found {
    /// The bits of both in one number of the same order: comparing is one instruction.
    #[inline]
    pub(super) fn new(score: f32, row: u32) -> Self {
        let bits = score.to_bits();
        // Negative numbers run the other way, below the positive ones.
        let ordered = match bits >> 31 {
            0 => bits | 1 << 31,
            _ => !bits,
        };
        Self(u64::from(ordered) << 32 | u64::from(!row))
    }

    #[inline]
    pub(super) fn row(self) -> u32 {
        !(self.0 as u32)
    }

    #[inline]
    pub(super) fn score(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(match ordered >> 31 {
            1 => ordered & !(1 << 31),
            _ => !ordered,
        })
    }
}

/// Where a walk goes, and what it looks for.
pub(super) struct Ground<'a, L> {
    pub(super) graph: &'a L,
    pub(super) bytes: &'a ByteRows,
    pub(super) query: ByteRow<'a>,
}

impl<L> Clone for Ground<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Ground<'_, L> {}

impl<L> Ground<'_, L> {
    pub(super) fn score(&self, row: u32) -> Found {
        Found::new(product(self.query, self.bytes.row(row)), row)
    }
}

/// What one walk after the other needs, kept between them.
pub(super) struct Walk {
    /// A bit for each row that was met.
    met: Vec<u64>,
    /// Which words of `met` are not zero: few, so that clearing them costs less than clearing all.
    touched: Vec<u32>,
    links: Vec<u32>,
    scores: Vec<f32>,
}

impl Walk {
    pub(super) fn new(num_rows: usize) -> Self {
        Self {
            met: vec![0; num_rows.div_ceil(64)],
            touched: Vec::new(),
            links: Vec::new(),
            scores: Vec::new(),
        }
    }

    fn is_new(&mut self, row: u32) -> bool {
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        let before = self.met[word];
        if before == 0 {
            self.touched.push(word as u32);
        }
        self.met[word] = before | bit;
        before & bit == 0
    }

    fn forget(&mut self) {
        for word in self.touched.drain(..) {
            self.met[word as usize] = 0;
        }
    }

    /// Room for so many rows.
    pub(super) fn reach(&mut self, num_rows: usize) {
        let words = num_rows.div_ceil(64);
        if self.met.len() < words {
            self.met.resize(words, 0);
        }
    }

    /// About the `ef` rows of a layer closest to `query` that are `wanted`, best first. Rows that
    /// are not wanted are passed through.
    pub(super) fn layer(
        &mut self,
        ground: Ground<'_, impl Links>,
        from: &[Found],
        layer: usize,
        ef: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<Found> {
        self.forget();
        let mut ahead: BinaryHeap<Found> = BinaryHeap::new();
        let mut best: BinaryHeap<Reverse<Found>> = BinaryHeap::with_capacity(ef + 1);
        for found in from {
            self.is_new(found.row());
            ahead.push(*found);
            if wanted(found.row()) {
                best.push(Reverse(*found));
            }
        }
        while let Some(found) = ahead.pop() {
            let worst = best.peek().map(|worst| worst.0);
            if best.len() >= ef && worst.is_some_and(|worst| found < worst) {
                break;
            }
            let mut links = std::mem::take(&mut self.links);
            ground.graph.links(found.row(), layer, &mut links);
            links.retain(|&link| self.is_new(link));
            ground.bytes.scores(ground.query, &links, &mut self.scores);
            for (&row, &score) in links.iter().zip(&self.scores) {
                let found = Found::new(score, row);
                let is_full = best.len() >= ef;
                if is_full && best.peek().is_some_and(|worst| found < worst.0) {
                    continue;
                }
                ahead.push(found);
                if wanted(row) {
                    best.push(Reverse(found));
                    if is_full {
                        best.pop();
                    }
                }
            }
            self.links = links;
        }
        let mut found: Vec<Found> = best.into_iter().map(|Reverse(found)| found).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_rows_are_ordered_by_score_then_row() {
        let scores = [-1.0, -0.5, -0.0, 0.0, 0.25, 1.5];
        for (index, &score) in scores.iter().enumerate() {
            let found = Found::new(score, 7);
            assert_eq!((found.score().to_bits(), found.row()), (score.to_bits(), 7));
            assert!(found > Found::new(score, 8));
            assert!(
                scores[..index]
                    .iter()
                    .all(|&less| Found::new(less, 0) < found)
            );
        }
    }
}
