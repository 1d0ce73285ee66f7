//! Search by words, and by vector and words together.
//!
//! Both sides look at the same state of the file and through the same filter; each gives its best
//! [`DEPTH`] or more chunks, and a [`Fusion`] orders what they found together.

use std::cmp::Ordering;
use std::collections::HashMap;

use rusqlite::Connection;

use super::Collection;
use super::packed::Packed;
use super::read::{read_hit, to_floats};
use super::text;
use crate::document::{Filter, Hit};
use crate::rows::Allowed;
use crate::text::table::TextQuery;
use crate::{Error, Result};

/// Chunks that each side contributes at least: beyond the hundredth place neither side's order
/// says much, and reciprocal ranks hardly differ.
pub(crate) const DEPTH: usize = 100;

/// How the orders of vector and text become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fusion {
    /// The sum over both sides of weight / (k + place), places counted from 1 (Cormack, Clarke and
    /// Büttcher 2009, who take k = 60).
    ReciprocalRank {
        /// Dampens the first places.
        k: f32,
        /// The weight of the text's order; the vector's is 1.
        text_weight: f32,
    },
    /// (1 - text) · cosine + text · coverage. The cosines are stretched so that the best chunk has
    /// 1 and the worst candidate, if it is worse, 0; the coverage is BM25 as a share of what the query could reach,
    /// so that a query whose words are not in the collection (another language) leaves the order
    /// to the vectors.
    Weighted {
        /// The text's share, 0 to 1.
        text: f32,
    },
    /// 1 - (1 - vector · cosine) · (1 - text · coverage), where a cosine below 0 counts as 0: between 0
    /// and 1, and for a chunk the same whatever else is found, so that a threshold means something. A
    /// cosine that is high already leaves little for the words to add, which suits models whose
    /// cosines are all high.
    Absolute {
        /// How much the cosine counts, 0 to 1.
        vector: f32,
        /// How much the text counts, 0 to 1.
        text: f32,
    },
}

impl Default for Fusion {
    /// Measured (`docs/retrieval.md`): at least as good as either side on every set, which
    /// reciprocal ranks are not where query and documents are in different languages.
    fn default() -> Self {
        Self::Weighted { text: 0.6 }
    }
}

/// A chunk with what both sides say of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Candidate {
    pub(crate) row: usize,
    pub(crate) score: f32,
    pub(crate) cosine: Option<f32>,
    pub(crate) bm25: Option<f32>,
    dense_place: Option<usize>,
    text_place: Option<usize>,
}

impl Collection {
    /// The `top_k` chunks that have the most telling words of `query`, by BM25; equal scores are
    /// ordered by document path, then by place in the document.
    ///
    /// # Errors
    ///
    /// If the file was written before there was a text index and is open to read only, or cannot be
    /// read.
    pub fn search_text(&self, query: &str, top_k: usize, filter: &Filter) -> Result<Vec<Hit>> {
        let query = TextQuery::new(query);
        self.with_state(|state, packed| {
            let allowed = packed.allowed(state, filter);
            let allowed = allowed.map_err(|error| Error::sqlite(&self.path, error))?;
            let (found, _) = self.by_text(state, packed, &query, top_k, &allowed)?;
            let candidates = found.into_iter().map(|(score, row)| Candidate {
                row,
                score,
                bm25: Some(score),
                ..Candidate::default()
            });
            self.to_hits(state, packed, candidates)
        })
    }

    /// The `top_k` chunks closest to `vector` and `text` together.
    ///
    /// # Errors
    ///
    /// As [`Collection::search`] and [`Collection::search_text`].
    pub fn search_hybrid(
        &self,
        vector: &[f32],
        text: &str,
        fusion: Fusion,
        top_k: usize,
        filter: &Filter,
    ) -> Result<Vec<Hit>> {
        let unit = self.unit_queries(&[vector])?.pop().flatten();
        let vector = unit.as_deref().unwrap_or(vector);
        let query = TextQuery::new(text);
        let depth = top_k.max(DEPTH);
        self.with_state(|state, packed| {
            let allowed = packed.allowed(state, filter);
            let allowed = allowed.map_err(|error| Error::sqlite(&self.path, error))?;
            let dense = packed.rows.search(&[vector], depth, &allowed).remove(0);
            let (words, ideal) = self.by_text(state, packed, &query, depth, &allowed)?;
            let mut candidates = joined(&dense, &words);
            for candidate in candidates.iter_mut().filter(|found| found.cosine.is_none()) {
                candidate.cosine = self.cosine(state, packed, candidate.row, vector)?;
            }
            fusion.score(&mut candidates, ideal);
            let rank = |candidate: &Candidate| packed.rows.rank(candidate.row);
            candidates.sort_by(|a, b| {
                let by_score = b.score.total_cmp(&a.score);
                by_score.then_with(|| rank(a).cmp(&rank(b)))
            });
            candidates.truncate(top_k);
            self.to_hits(state, packed, candidates)
        })
    }

    /// `(BM25, row)` of the best matches, best first, and what the query could reach.
    fn by_text(
        &self,
        state: &Connection,
        packed: &Packed,
        query: &TextQuery,
        top_k: usize,
        allowed: &Allowed,
    ) -> Result<(Vec<(f32, usize)>, f32)> {
        self.expect_text_index(state)?;
        let matches = text::num_rows(state)
            .and_then(|num_rows| query.run(state, text::TERMS, num_rows))
            .map_err(|error| Error::sqlite(&self.path, error))?;
        let mut found: Vec<(f32, u32, usize)> = matches
            .scores
            .into_iter()
            .filter_map(|(chunk_id, score)| {
                let row = packed.row_of(chunk_id)?;
                let rank = packed.rows.rank(row);
                allowed.contains(rank).then_some((score, rank, row))
            })
            .collect();
        let order = |a: &(f32, u32, usize), b: &(f32, u32, usize)| -> Ordering {
            b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
        };
        if top_k < found.len() {
            found.select_nth_unstable_by(top_k, order);
            found.truncate(top_k);
        }
        found.sort_unstable_by(order);
        let found = found.into_iter().map(|(score, _, row)| (score, row));
        Ok((found.collect(), matches.ideal))
    }

    fn cosine(
        &self,
        state: &Connection,
        packed: &Packed,
        row: usize,
        query: &[f32],
    ) -> Result<Option<f32>> {
        let read = || {
            let mut select = state.prepare_cached("SELECT vector FROM vectors WHERE chunk = ?1")?;
            select.query_row([packed.chunk_ids[row]], |row| {
                let vector = to_floats(row.get_ref(0)?.as_blob()?);
                Ok(vector.zip(query).map(|(a, b)| a * b).sum::<f32>())
            })
        };
        let cosine = read().map_err(|error| Error::sqlite(&self.path, error))?;
        Ok(Some(cosine))
    }

    fn to_hits(
        &self,
        state: &Connection,
        packed: &Packed,
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Result<Vec<Hit>> {
        let to_hit = |found: Candidate| {
            let hit = read_hit(state, packed.chunk_ids[found.row], found.score)?;
            Ok(Hit {
                cosine: found.cosine,
                bm25: found.bm25,
                ..hit
            })
        };
        let hits: rusqlite::Result<_> = candidates.into_iter().map(to_hit).collect();
        hits.map_err(|error| Error::sqlite(&self.path, error))
    }
}

impl Candidate {
    /// Its BM25 as a share of what the query could reach.
    fn coverage(&self, ideal: f32) -> f32 {
        self.bm25.unwrap_or(0.0) / ideal.max(f32::MIN_POSITIVE)
    }
}

/// Each row once, with the scores and places that the sides give it.
pub(crate) fn joined(dense: &[(f32, usize)], words: &[(f32, usize)]) -> Vec<Candidate> {
    let mut by_row: HashMap<usize, Candidate> = HashMap::new();
    let new = |row| Candidate {
        row,
        ..Candidate::default()
    };
    for (place, &(score, row)) in dense.iter().enumerate() {
        let candidate = by_row.entry(row).or_insert_with(|| new(row));
        (candidate.cosine, candidate.dense_place) = (Some(score), Some(place));
    }
    for (place, &(score, row)) in words.iter().enumerate() {
        let candidate = by_row.entry(row).or_insert_with(|| new(row));
        (candidate.bm25, candidate.text_place) = (Some(score), Some(place));
    }
    by_row.into_values().collect()
}

impl Fusion {
    /// Fills in the candidates' scores; `ideal` is the BM25 that the query could reach.
    pub(crate) fn score(self, candidates: &mut [Candidate], ideal: f32) {
        match self {
            Self::ReciprocalRank { k, text_weight } => {
                let part =
                    |place: Option<usize>| place.map_or(0.0, |at| 1.0 / (k + 1.0 + at as f32));
                for found in candidates {
                    found.score = part(found.dense_place) + text_weight * part(found.text_place);
                }
            }
            Self::Weighted { text } => {
                let cosines = || candidates.iter().filter_map(|found| found.cosine);
                let best = cosines().fold(f32::NEG_INFINITY, f32::max);
                let worst = cosines().fold(f32::INFINITY, f32::min);
                // One candidate, or equal ones: each is the best.
                let stretched = |cosine| match best > worst {
                    true => (cosine - worst) / (best - worst),
                    false => 1.0,
                };
                for found in candidates {
                    let cosine = found.cosine.map_or(0.0, stretched);
                    found.score = (1.0 - text) * cosine + text * found.coverage(ideal);
                }
            }
            Self::Absolute { vector, text } => {
                for found in candidates {
                    // Of two unit vectors it may be a little above 1.
                    let cosine = found.cosine.unwrap_or(0.0).clamp(0.0, 1.0);
                    let coverage = found.coverage(ideal).clamp(0.0, 1.0);
                    found.score = 1.0 - (1.0 - vector * cosine) * (1.0 - text * coverage);
                }
            }
        }
    }
}
