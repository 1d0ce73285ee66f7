//! The search in a space: by closeness to one vector, or by what a formula makes of several.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use rusqlite::Connection;

use super::super::read::point_at;
use super::super::{SqliteStore, lock};
use super::packed::{PackedSpace, Postings};
use crate::Result;
use crate::rows::{Allowed, Rows};
use crate::vector_store::VectorStore;
use crate::vector_store::index::{nearest, prepare};
use crate::vector_store::named::{NamedVector, Space, SparseVector};
use crate::vector_store::point::{PointId, ScoredPoint};
use crate::vector_store::request::{Distance, SearchRequest, Selection};

/// Makes one score of several.
pub type Combine<'a> = dyn Fn(&[f32]) -> f32 + 'a;

/// What is sought in a space: closeness to one vector, or what `combine` makes of the closenesses to
/// several. Closer is greater; in a sparse space 0 is the closeness of vectors without a common term.
#[derive(Clone, Copy)]
pub struct SpaceQuery<'a> {
    /// The vectors.
    pub examples: &'a [NamedVector],
    /// From the scores of the examples, in their order, to the score of a point.
    pub combine: Option<&'a Combine<'a>>,
    /// Only among these points, if there are any.
    pub within: Option<&'a [PointId]>,
}

impl fmt::Debug for SpaceQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceQuery")
            .field("examples", &self.examples)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// Scores with the rows in the file that have them.
type Scores = Vec<(f32, u32)>;

impl SqliteStore {
    /// The points that fit a query in a space best; as [`VectorStore::search`] otherwise.
    ///
    /// # Errors
    ///
    /// If there is no such space, or a vector does not fit it.
    pub fn search_space(
        &self,
        name: &str,
        query: SpaceQuery<'_>,
        request: &SearchRequest,
    ) -> Result<Vec<ScoredPoint>> {
        let space = self.space(name)?;
        for example in query.examples {
            space.check_vector(example, &self.name, name)?;
        }
        if let ([NamedVector::Dense(vector)], None, None, true) = (
            query.examples,
            query.combine,
            query.within,
            self.is_simple(),
        ) {
            return self.search(vector, request);
        }
        self.file.read(|state| {
            let allowed = self.allowed(state, request, query.within)?;
            let scores = self.scores(state, name, space, query, request, &allowed)?;
            let point = |(score, row): (f32, u32)| {
                let point = point_at(state, i64::from(row), false)?;
                Ok(ScoredPoint { score, point })
            };
            let found = scores.into_iter().map(point);
            let found = found.collect::<rusqlite::Result<Vec<_>>>();
            found.map_err(|error| self.file.at(error))
        })
    }

    /// The rows that a search may find.
    pub(in super::super) fn allowed(
        &self,
        state: &Connection,
        request: &SearchRequest,
        within: Option<&[PointId]>,
    ) -> Result<Allowed> {
        let filter = request.filter.clone().map(Selection::Filter);
        let of = |rows: Vec<i64>| Allowed::of(rows.into_iter().map(|row| row as u32));
        let Some(ids) = within else {
            return match filter {
                Some(filter) => Ok(of(self.selected(state, &filter)?)),
                None => Ok(Allowed::All),
            };
        };
        let mut rows = self.selected(state, &Selection::Ids(ids.to_vec()))?;
        if let Some(filter) = &request.filter {
            let mut kept = Vec::new();
            for row in rows {
                let point = point_at(state, row, false).map_err(|error| self.file.at(error))?;
                if filter.matches(&[point.id.to_json()], &point.payload.into()) {
                    kept.push(row);
                }
            }
            rows = kept;
        }
        Ok(of(rows))
    }

    /// The best rows with their scores, best first.
    fn scores(
        &self,
        state: &Connection,
        name: &str,
        space: &Space,
        query: SpaceQuery<'_>,
        request: &SearchRequest,
        allowed: &Allowed,
    ) -> Result<Scores> {
        if self.is_simple() {
            let mut packed = lock(&self.packed);
            self.refresh(state, &mut packed)?;
            return self.dense_scores(&packed.rows, self.options.distance, query, request, allowed);
        }
        let mut packed = lock(&self.packed_spaces);
        let packed = match packed.get_mut(name) {
            Some(packed) => packed,
            None => packed.entry(name.into()).or_insert(PackedSpace::new(space)),
        };
        match (space, packed) {
            (Space::Dense { distance, .. }, PackedSpace::Dense(packed)) => {
                self.refresh_space(state, name, space, &mut **packed)?;
                self.dense_scores(&packed.rows, *distance, query, request, allowed)
            }
            (Space::Sparse { idf }, PackedSpace::Sparse(postings)) => {
                self.refresh_space(state, name, space, postings)?;
                Ok(postings.search(*idf, query, request, allowed))
            }
            _ => Ok(Scores::new()),
        }
    }

    fn dense_scores(
        &self,
        rows: &Rows,
        distance: Distance,
        query: SpaceQuery<'_>,
        request: &SearchRequest,
        allowed: &Allowed,
    ) -> Result<Scores> {
        let vectors = query.examples.iter().map(|example| match example {
            NamedVector::Dense(vector) => {
                let width = rows.dimensions();
                prepare(distance, vector, width, &self.name, &|| "the query".into())
            }
            NamedVector::Sparse(_) => unreachable!("it was checked; this is a bug"),
        });
        let vectors = vectors.collect::<Result<Vec<_>>>()?;
        let vectors: Vec<&[f32]> = vectors.iter().map(AsRef::as_ref).collect();
        let by_row = |scores: Vec<(f32, usize)>| -> Scores {
            let scores = scores.into_iter();
            scores.map(|(score, row)| (score, rows.rank(row))).collect()
        };
        let Some(combine) = query.combine else {
            let found = nearest(rows, distance, &vectors, request, allowed).pop();
            return Ok(by_row(found.unwrap_or_default()));
        };
        let every = SearchRequest {
            top_k: rows.len(),
            ..SearchRequest::default()
        };
        let all = nearest(rows, distance, &vectors, &every, allowed);
        let mut of_row: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        for (example, scores) in all.iter().enumerate() {
            for (score, row) in scores {
                let of = of_row
                    .entry(*row)
                    .or_insert_with(|| vec![0.0; vectors.len()]);
                of[example] = *score;
            }
        }
        let scores = of_row.iter().map(|(row, scores)| (combine(scores), *row));
        Ok(by_row(best(scores.collect(), request)))
    }
}

impl Postings {
    fn search(
        &self,
        idf: bool,
        query: SpaceQuery<'_>,
        request: &SearchRequest,
        allowed: &Allowed,
    ) -> Scores {
        let scores: Vec<HashMap<u32, f32>> = (query.examples.iter())
            .map(|example| match example {
                NamedVector::Sparse(vector) => self.dot_products(vector, idf, allowed),
                NamedVector::Dense(_) => HashMap::new(),
            })
            .collect();
        let Some(combine) = query.combine else {
            let first = scores.into_iter().next().unwrap_or_default();
            let scores = first.into_iter().map(|(row, score)| (score, row));
            return best(scores.collect(), request);
        };
        let rows = self.terms.keys().filter(|row| allowed.contains(**row));
        let combined = rows.map(|row| {
            let of = |scores: &HashMap<u32, f32>| scores.get(row).copied().unwrap_or_default();
            let scores: Vec<f32> = scores.iter().map(of).collect();
            (combine(&scores), *row)
        });
        best(combined.collect(), request)
    }

    /// The dot product with each allowed row that has one of the terms.
    fn dot_products(
        &self,
        vector: &SparseVector,
        idf: bool,
        allowed: &Allowed,
    ) -> HashMap<u32, f32> {
        let mut products = HashMap::new();
        for (term, value) in vector.iter() {
            let Some(postings) = self.by_term.get(&term) else {
                continue;
            };
            let weight = match idf {
                true => value * inverse_document_frequency(self.terms.len(), postings.len()),
                false => value,
            };
            for (row, other) in postings {
                if allowed.contains(*row) {
                    *products.entry(*row).or_default() += weight * other;
                }
            }
        }
        products
    }
}

/// ln(1 + (n - df + ½) / (df + ½)), as in BM25.
fn inverse_document_frequency(num_points: usize, num_with_term: usize) -> f32 {
    let (n, df) = (num_points as f64, num_with_term as f64);
    (((n - df + 0.5) / (df + 0.5)) + 1.0).ln() as f32
}

/// The part of all scores that a request wants, best first; equal ones in the order of their rows.
fn best<R: Copy + Ord>(mut scores: Vec<(f32, R)>, request: &SearchRequest) -> Vec<(f32, R)> {
    if let Some(threshold) = request.score_threshold {
        scores.retain(|(score, _)| *score >= threshold);
    }
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let scores = scores.into_iter().skip(request.offset);
    scores.take(request.top_k).collect()
}
