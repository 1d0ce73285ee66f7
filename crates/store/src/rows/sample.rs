//! Some of the rows with their closest ones: what an index is measured by.

use super::{Allowed, Nearest, Rows};

/// Live mapped rows as queries, and what an exact search finds for each.
pub(super) struct Sample<'a> {
    pub(super) queries: Vec<&'a [f32]>,
    exact: Vec<Nearest>,
}

impl<'a> Sample<'a> {
    /// Enough for a recall to two digits.
    const QUERIES: usize = 256;

    pub(super) const TOP_K: usize = 10;

    pub(super) fn of(rows: &'a Rows) -> Self {
        let step = (rows.base() / Self::QUERIES).max(1);
        let sample = (0..rows.base()).step_by(step);
        let queries: Vec<&[f32]> = sample
            .filter(|&row| rows.is_live(row))
            .map(|row| rows.row(row))
            .collect();
        let exact = rows.search_exact(&queries, Self::TOP_K, &Allowed::All);
        Self { queries, exact }
    }

    /// The part of what is to be found that is among `found`.
    pub(super) fn recall(&self, found: &[Nearest]) -> f64 {
        let (mut hits, mut wanted) = (0, 0);
        for (found, exact) in found.iter().zip(&self.exact) {
            let is_found = |(_, row): &&(f32, usize)| found.iter().any(|(_, other)| other == row);
            hits += exact.iter().filter(is_found).count();
            wanted += exact.len();
        }
        hits as f64 / wanted.max(1) as f64
    }
}
