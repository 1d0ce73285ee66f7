//! Collections whose points have several vectors. They lie in a table of their own, by the point's row
//! and the name of their space; what a search reads is packed in memory, as that of other collections,
//! and kept in step with the file by the same versions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use rusqlite::{Connection, OptionalExtension};

use super::read::{id_to_sql, point_at};
use super::search::Packed;
use super::{SqliteStore, lock};
use crate::rows::{Allowed, Rows};
use crate::vector_store::VectorStore;
use crate::vector_store::index::{nearest, prepare};
use crate::vector_store::named::{NamedPoint, NamedVector, Space, SparseVector, UNNAMED, Vectors};
use crate::vector_store::point::{Point, PointId, ScoredPoint};
use crate::vector_store::request::{Distance, Existing, SearchRequest, Selection};
use crate::{Error, ErrorKind, Result};

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

/// What a search in a space reads.
pub(super) enum PackedSpace {
    Dense(Box<Packed>),
    Sparse(Postings),
}

/// For each term the points that have it.
#[derive(Default)]
pub(super) struct Postings {
    version: i64,
    by_term: HashMap<u32, Vec<(u32, f32)>>,
    /// The terms of each row.
    terms: HashMap<u32, Vec<u32>>,
}

/// Scores with the rows in the file that have them.
type Scores = Vec<(f32, u32)>;

impl SqliteStore {
    /// The spaces in which its points have vectors; one called [`UNNAMED`] if it was made without.
    #[must_use]
    pub fn spaces(&self) -> &BTreeMap<String, Space> {
        &self.spaces
    }

    /// True if points have one vector, which needs no name.
    fn is_simple(&self) -> bool {
        self.dimensions > 0
    }

    /// Keeps points as [`VectorStore::upsert`] does, with the vectors that they have.
    ///
    /// # Errors
    ///
    /// If a vector does not fit its space, or there is no such space; or, where points have one vector
    /// without a name, if one has none. Nothing has changed then.
    pub fn put_named(&self, points: &[NamedPoint]) -> Result<()> {
        points
            .iter()
            .try_for_each(|point| self.check_vectors(&point.vectors))?;
        if self.is_simple() {
            if let Some(point) = points.iter().find(|point| point.vectors.is_empty()) {
                let id = point.id.to_string();
                return Err(ErrorKind::NoVector { id }.into());
            }
            let points: Vec<Point> = points.iter().cloned().map(NamedPoint::unnamed).collect();
            return self.write_points(&points, Existing::Replace);
        }
        let has_no_name =
            |point: &NamedPoint| matches!(&point.id, PointId::Text(id) if id.is_empty());
        if points.iter().any(has_no_name) {
            return Err(ErrorKind::EmptyId.into());
        }
        self.change(|connection, version| {
            let put = |named: &NamedPoint| {
                let point = Point {
                    id: named.id.clone(),
                    vector: Vec::new(),
                    text: named.text.clone(),
                    payload: named.payload.clone(),
                };
                let row = self.write_point(connection, version, &point)?;
                connection
                    .prepare_cached("DELETE FROM named_vectors WHERE row = ?1")?
                    .execute([row])?;
                write_vectors(connection, row, &named.vectors)
            };
            points
                .iter()
                .try_for_each(put)
                .map_err(|error| self.file.at(error))
        })
    }

    /// Sets some vectors of points and leaves the others, all or none.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::put_named`], and if there is no point with an id.
    pub fn set_vectors(&self, changes: &[(PointId, Vectors)]) -> Result<()> {
        changes
            .iter()
            .try_for_each(|(_, vectors)| self.check_vectors(vectors))?;
        self.change(|connection, version| {
            for (id, vectors) in changes {
                let row = self
                    .row_of(connection, id)?
                    .ok_or_else(|| ErrorKind::UnknownId { id: id.to_string() })?;
                let set = || {
                    if let (true, Some(vector)) = (self.is_simple(), vectors.get(UNNAMED)) {
                        let update = "UPDATE vectors SET vector = ?2 WHERE row = ?1";
                        connection.execute(update, (row, vector.to_bytes()))?;
                    } else {
                        write_vectors(connection, row, vectors)?;
                    }
                    stamp(connection, row, version)
                };
                set().map_err(|error| self.file.at(error))?;
            }
            Ok(())
        })
    }

    /// Removes some vectors of the selected points; says of how many points.
    ///
    /// # Errors
    ///
    /// If there is no such space, or points have but one vector.
    pub fn delete_vectors(&self, selection: &Selection, names: &[String]) -> Result<u64> {
        for name in names {
            self.space(name)?;
        }
        if self.is_simple() {
            let reason = "the only vector of points cannot be removed without them".into();
            return Err(ErrorKind::InvalidVectors { reason }.into());
        }
        self.change(|connection, version| {
            let rows = self.selected(connection, selection)?;
            let run = || {
                let delete = "DELETE FROM named_vectors WHERE row = ?1 AND name = ?2";
                let mut delete = connection.prepare_cached(delete)?;
                for row in &rows {
                    for name in names {
                        delete.execute((row, name))?;
                    }
                    stamp(connection, *row, version)?;
                }
                Ok(())
            };
            run().map_err(|error| self.file.at(error))?;
            Ok(rows.len() as u64)
        })
    }

    /// The vectors of the points with these ids, in the order of `ids`; those of unknown ids are empty.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn vectors_of(&self, ids: &[PointId]) -> Result<Vec<Vectors>> {
        self.file.read(|state| {
            self.version(state)?;
            let mut all = Vec::with_capacity(ids.len());
            for id in ids {
                let vectors = match self.row_of(state, id)? {
                    Some(row) => self.vectors_at(state, row)?,
                    None => Vectors::new(),
                };
                all.push(vectors);
            }
            Ok(all)
        })
    }

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

    /// The space with this name.
    fn space(&self, name: &str) -> Result<&Space> {
        self.spaces.get(name).ok_or_else(|| {
            ErrorKind::UnknownVector {
                name: name.into(),
                known: self.spaces.keys().cloned().collect(),
            }
            .into()
        })
    }

    fn check_vectors(&self, vectors: &Vectors) -> Result<()> {
        vectors.iter().try_for_each(|(name, vector)| {
            let space = self.space(name)?;
            space.check_vector(vector, &self.name, name)
        })
    }

    fn vectors_at(&self, state: &Connection, row: i64) -> Result<Vectors> {
        let mut vectors = Vectors::new();
        let mut take = |name: String, blob: Vec<u8>| {
            // A space may have been another once; what does not fit is not there.
            if let Some(space) = self.spaces.get(&name)
                && let Some(vector) = NamedVector::from_bytes(space, &blob)
            {
                vectors.insert(name, vector);
            }
        };
        let mut read = || {
            if self.is_simple() {
                let select = "SELECT vector FROM vectors WHERE row = ?1";
                let mut select = state.prepare_cached(select)?;
                take(UNNAMED.into(), select.query_row([row], |row| row.get(0))?);
                return Ok(());
            }
            let select = "SELECT name, vector FROM named_vectors WHERE row = ?1";
            let mut select = state.prepare_cached(select)?;
            let mut found = select.query([row])?;
            while let Some(found) = found.next()? {
                take(found.get(0)?, found.get(1)?);
            }
            Ok(())
        };
        read().map_err(|error| self.file.at(error))?;
        Ok(vectors)
    }

    /// The rows that a search may find.
    fn allowed(
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

    /// Brings what is packed of a space to the state of the file.
    fn refresh_space(
        &self,
        state: &Connection,
        name: &str,
        space: &Space,
        packed: &mut impl Follows,
    ) -> Result<()> {
        let at = |error| self.file.at(error);
        let version = self.version(state)?;
        let known = packed.version();
        if version == known {
            return Ok(());
        }
        let floor: i64 = state
            .query_row(
                "SELECT floor FROM collections WHERE id = ?1",
                [self.id],
                |row| row.get(0),
            )
            .map_err(at)?;
        // A reading that fails half-way is begun anew.
        packed.set_version(0);
        let followed =
            known > 0 && known >= floor && self.follow_space(state, name, space, known, packed)?;
        if !followed {
            packed.clear();
            let select = "SELECT named_vectors.row, named_vectors.vector
                FROM vectors JOIN named_vectors USING (row)
                WHERE vectors.collection = ?1 AND named_vectors.name = ?2 ORDER BY vectors.row";
            let mut select = state.prepare_cached(select).map_err(at)?;
            let mut found = select.query((self.id, name)).map_err(at)?;
            while let Some(found) = found.next().map_err(at)? {
                let (row, blob): (i64, Vec<u8>) =
                    (found.get(0).map_err(at)?, found.get(1).map_err(at)?);
                packed.put(self.rank(row)?, &self.packable(space, row, &blob)?);
            }
        }
        packed.set_version(version);
        Ok(())
    }

    /// Reads what came and went since the version `known`; false if a row came before others that are
    /// packed, so that all must be read again.
    fn follow_space(
        &self,
        state: &Connection,
        name: &str,
        space: &Space,
        known: i64,
        packed: &mut impl Follows,
    ) -> Result<bool> {
        let at = |error| self.file.at(error);
        let mut gone = HashSet::new();
        for row in self.changed(state, "removed", known).map_err(at)? {
            gone.insert(self.rank(row)?);
        }
        let mut written = Vec::new();
        let select = "SELECT vector FROM named_vectors WHERE row = ?1 AND name = ?2";
        let mut select = state.prepare_cached(select).map_err(at)?;
        for row in self.changed(state, "vectors", known).map_err(at)? {
            let blob: Option<Vec<u8>> = select
                .query_row((row, name), |row| row.get(0))
                .optional()
                .map_err(at)?;
            match blob {
                Some(blob) => written.push((self.rank(row)?, self.packable(space, row, &blob)?)),
                None => {
                    gone.insert(self.rank(row)?);
                }
            }
        }
        packed.remove(&gone);
        Ok(written.iter().all(|(row, vector)| packed.put(*row, vector)))
    }

    fn rank(&self, row: i64) -> Result<u32> {
        let path = || self.file.path.clone();
        u32::try_from(row).map_err(|_| ErrorKind::Full { path: path() }.into())
    }

    /// The vector in a blob as it is packed.
    fn packable(&self, space: &Space, row: i64, blob: &[u8]) -> Result<NamedVector> {
        let corrupt = |reason: &str| {
            Error::corrupt(&self.file.path, format!("a vector of row {row} {reason}"))
        };
        let vector = NamedVector::from_bytes(space, blob);
        match (space, vector) {
            (_, None) => Err(corrupt("does not fit its space")),
            (
                Space::Dense {
                    dimensions,
                    distance,
                },
                Some(NamedVector::Dense(vector)),
            ) => {
                let unit = prepare(*distance, &vector, *dimensions, &self.name, &String::new);
                let unit = unit.map_err(|_| corrupt("cannot be compared"))?;
                Ok(NamedVector::Dense(unit.into_owned()))
            }
            (_, Some(vector)) => Ok(vector),
        }
    }
}

fn write_vectors(connection: &Connection, row: i64, vectors: &Vectors) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO named_vectors (row, name, vector) VALUES (?1, ?2, ?3)";
    let mut insert = connection.prepare_cached(insert)?;
    for (name, vector) in vectors {
        insert.execute((row, name, vector.to_bytes()))?;
    }
    Ok(())
}

/// Tells readers that vectors of the row changed.
fn stamp(connection: &Connection, row: i64, version: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE vectors SET version = ?2 WHERE row = ?1")?
        .execute((row, version))
        .map(drop)
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

/// What is packed of a space and follows the file.
trait Follows {
    fn version(&self) -> i64;
    fn set_version(&mut self, version: i64);
    fn clear(&mut self);
    fn remove(&mut self, rows: &HashSet<u32>);
    /// Takes a vector, new or changed; false if it belongs before others that are there.
    fn put(&mut self, row: u32, vector: &NamedVector) -> bool;
}

impl Follows for Packed {
    fn version(&self) -> i64 {
        self.version
    }

    fn set_version(&mut self, version: i64) {
        self.version = version;
    }

    fn clear(&mut self) {
        *self = Self::new(self.rows.dimensions());
    }

    fn remove(&mut self, rows: &HashSet<u32>) {
        if !rows.is_empty() {
            self.rows.retain_ranks(|rank| !rows.contains(&rank));
        }
    }

    fn put(&mut self, row: u32, vector: &NamedVector) -> bool {
        let NamedVector::Dense(vector) = vector else {
            return false;
        };
        match self.rows.row_of_rank(row) {
            Ok(known) => self.rows.set(known, vector),
            Err(place) if place == self.rows.len() => {
                self.rows.push(vector.iter().copied(), row);
            }
            Err(_) => return false,
        }
        true
    }
}

impl PackedSpace {
    fn new(space: &Space) -> Self {
        match space {
            Space::Dense { dimensions, .. } => Self::Dense(Box::new(Packed::new(*dimensions))),
            Space::Sparse { .. } => Self::Sparse(Postings::default()),
        }
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

impl Follows for Postings {
    fn version(&self) -> i64 {
        self.version
    }

    fn set_version(&mut self, version: i64) {
        self.version = version;
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, rows: &HashSet<u32>) {
        let mut touched = HashSet::new();
        for row in rows {
            touched.extend(self.terms.remove(row).unwrap_or_default());
        }
        for term in touched {
            if let Some(postings) = self.by_term.get_mut(&term) {
                postings.retain(|(row, _)| !rows.contains(row));
                if postings.is_empty() {
                    self.by_term.remove(&term);
                }
            }
        }
    }

    fn put(&mut self, row: u32, vector: &NamedVector) -> bool {
        let NamedVector::Sparse(vector) = vector else {
            return false;
        };
        if self.terms.contains_key(&row) {
            self.remove(&HashSet::from([row]));
        }
        self.terms.insert(row, vector.indices().to_vec());
        for (term, value) in vector.iter() {
            self.by_term.entry(term).or_default().push((row, value));
        }
        true
    }
}

/// The id's row, for those who have no point at hand.
impl SqliteStore {
    pub(super) fn row_of(&self, connection: &Connection, id: &PointId) -> Result<Option<i64>> {
        let select = "SELECT row FROM points WHERE collection = ?1 AND id = ?2";
        connection
            .prepare_cached(select)
            .and_then(|mut select| {
                let values = (self.id, id_to_sql(id));
                select.query_row(values, |row| row.get(0)).optional()
            })
            .map_err(|error| self.file.at(error))
    }
}
