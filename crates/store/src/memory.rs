//! A collection in memory: the same search without a file.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::rows::{Allowed, Rows, to_unit};
use crate::{ErrorKind, Result};

/// The name of a memory collection in messages.
const NAME: &str = "memory";

/// A text with its vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Its id; given by the collection if `None`.
    pub id: Option<String>,
    /// The text.
    pub text: String,
    /// Its vector.
    pub vector: Vec<f32>,
    /// The caller's own facts (JSON).
    pub metadata: Value,
}

/// A point that a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredPoint<'a> {
    /// Cosine of query and point: greater is closer.
    pub score: f32,
    /// The point's id.
    pub id: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The caller's own facts.
    pub metadata: &'a Value,
}

/// Texts and vectors in memory, found by exact search.
///
/// The width is that of the first vector. Points keep the order in which they came, and equal
/// scores are ordered by it.
#[derive(Debug, Default)]
pub struct MemoryCollection {
    rows: Rows,
    points: Vec<Kept>,
    index: HashMap<String, usize>,
    /// The next id to try for a point without one.
    next_id: u64,
}

#[derive(Debug)]
struct Kept {
    id: String,
    text: String,
    metadata: Value,
}

impl MemoryCollection {
    /// An empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// True if there are no points.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Width of the vectors; `None` before the first one.
    #[must_use]
    pub fn dimensions(&self) -> Option<usize> {
        (self.rows.dimensions() > 0).then_some(self.rows.dimensions())
    }

    /// Adds texts with their vectors under ids of the collection's choice, which it returns.
    ///
    /// # Errors
    ///
    /// As [`MemoryCollection::add`], or if texts and vectors differ in number.
    pub fn add_texts(
        &mut self,
        texts: &[impl AsRef<str>],
        vectors: &[impl AsRef<[f32]>],
    ) -> Result<Vec<String>> {
        if texts.len() != vectors.len() {
            let (chunks, vectors) = (texts.len(), vectors.len());
            return Err(ErrorKind::VectorCount {
                document: "the call".into(),
                chunks,
                vectors,
            }
            .into());
        }
        let point = |(text, vector): (&_, &_)| point(text, vector);
        self.add(texts.iter().zip(vectors).map(point).collect())
    }

    /// Adds points and returns their ids.
    ///
    /// # Errors
    ///
    /// If an id is taken or comes twice, or a vector has the wrong width, NaN or no direction;
    /// nothing has changed then.
    pub fn add(&mut self, points: Vec<Point>) -> Result<Vec<String>> {
        let mut seen = HashSet::new();
        for id in points.iter().filter_map(|point| point.id.as_deref()) {
            if self.index.contains_key(id) || !seen.insert(id) {
                return Err(ErrorKind::DuplicateId { id: id.into() }.into());
            }
        }
        self.upsert(points)
    }

    /// Adds points or replaces those with the same ids, which keep their places; returns their
    /// ids. Of two points with the same id the later one stays.
    ///
    /// # Errors
    ///
    /// If a vector has the wrong width, NaN or no direction; nothing has changed then.
    pub fn upsert(&mut self, points: Vec<Point>) -> Result<Vec<String>> {
        let width = points.first().map_or(0, |point| point.vector.len());
        let dimensions = self.dimensions().unwrap_or(width);
        if !points.is_empty() && dimensions == 0 {
            return Err(ErrorKind::Dimensions {
                received: 0,
                max: usize::MAX,
            }
            .into());
        }
        let units = points
            .iter()
            .enumerate()
            .map(|(index, point)| {
                let subject = || match &point.id {
                    Some(id) => format!("the vector of `{id}`"),
                    None => format!("vector {index}"),
                };
                to_unit(&point.vector, dimensions, NAME, &subject)
            })
            .collect::<Result<Vec<_>>>()?;
        if self.rows.dimensions() == 0 {
            self.rows = Rows::new(dimensions);
        }
        Ok(points
            .into_iter()
            .zip(units)
            .map(|(point, unit)| self.put(point, unit))
            .collect())
    }

    /// Removes the points with these ids; says how many there were.
    pub fn delete(&mut self, ids: &[impl AsRef<str>]) -> usize {
        let removed: HashSet<usize> = ids
            .iter()
            .filter_map(|id| self.index.remove(id.as_ref()))
            .collect();
        if removed.is_empty() {
            return 0;
        }
        let mut num_kept = 0;
        self.rows.retain(|row| {
            let rank = (!removed.contains(&row)).then_some(num_kept);
            num_kept += u32::from(rank.is_some());
            rank
        });
        let mut rows = 0..;
        self.points
            .retain(|_| rows.next().is_some_and(|row| !removed.contains(&row)));
        for (row, point) in self.points.iter().enumerate() {
            if let Some(index) = self.index.get_mut(&point.id) {
                *index = row;
            }
        }
        removed.len()
    }

    /// The points with these ids, in the order of `ids`; unknown ids are left out.
    #[must_use]
    pub fn get_by_ids(&self, ids: &[impl AsRef<str>]) -> Vec<Point> {
        let rows = ids.iter().filter_map(|id| self.index.get(id.as_ref()));
        rows.map(|&row| {
            let Kept { id, text, metadata } = &self.points[row];
            Point {
                id: Some(id.clone()),
                text: text.clone(),
                vector: self.rows.row(row).to_vec(),
                metadata: metadata.clone(),
            }
        })
        .collect()
    }

    /// The `top_k` points closest to `query`, best first; equal scores in the order of adding.
    ///
    /// # Errors
    ///
    /// If the query has the wrong width, NaN or no direction.
    pub fn search(&self, query: &[f32], top_k: usize) -> Result<Vec<ScoredPoint<'_>>> {
        let mut found = self.search_batch(&[query], top_k)?;
        Ok(found.pop().unwrap_or_default())
    }

    /// [`MemoryCollection::search`] for many queries, which share one pass over the vectors.
    ///
    /// # Errors
    ///
    /// As [`MemoryCollection::search`].
    pub fn search_batch(
        &self,
        queries: &[impl AsRef<[f32]>],
        top_k: usize,
    ) -> Result<Vec<Vec<ScoredPoint<'_>>>> {
        let mut units = Vec::with_capacity(queries.len());
        for (index, query) in queries.iter().enumerate() {
            let query = query.as_ref();
            let subject = || format!("query {index}");
            let dimensions = self.dimensions().unwrap_or(query.len());
            units.push(
                to_unit(query, dimensions, NAME, &subject)?.unwrap_or_else(|| query.to_vec()),
            );
        }
        let queries: Vec<&[f32]> = units.iter().map(Vec::as_slice).collect();
        let nearest = self.rows.search(&queries, top_k, &Allowed::All);
        let scored = |(score, row): (f32, usize)| {
            let Kept { id, text, metadata } = &self.points[row];
            ScoredPoint {
                score,
                id,
                text,
                metadata,
            }
        };
        Ok(nearest
            .into_iter()
            .map(|rows| rows.into_iter().map(scored).collect())
            .collect())
    }

    /// Keeps a point whose vector was checked; `unit` replaces it if it was not of unit length.
    fn put(&mut self, point: Point, unit: Option<Vec<f32>>) -> String {
        let vector = unit.unwrap_or(point.vector);
        let id = point.id.unwrap_or_else(|| self.free_id());
        let kept = Kept {
            id: id.clone(),
            text: point.text,
            metadata: point.metadata,
        };
        if let Some(&row) = self.index.get(&id) {
            self.rows.set(row, &vector);
            self.points[row] = kept;
        } else {
            let row = self.points.len();
            let rank = u32::try_from(row).expect("2^32 points do not fit memory; this is a bug");
            self.rows.push(vector, rank);
            self.points.push(kept);
            self.index.insert(id.clone(), row);
        }
        id
    }

    fn free_id(&mut self) -> String {
        loop {
            let id = self.next_id.to_string();
            self.next_id += 1;
            if !self.index.contains_key(&id) {
                return id;
            }
        }
    }
}

fn point(text: &impl AsRef<str>, vector: &impl AsRef<[f32]>) -> Point {
    Point {
        text: text.as_ref().into(),
        vector: vector.as_ref().to_vec(),
        ..Point::default()
    }
}
