//! The vectors packed in memory, kept in step with the file, and the search over them.

use rusqlite::{Connection, Row};

use super::read::point_at;
use super::{SqliteStore, lock};
use crate::collection::to_floats;
use crate::rows::{Allowed, Rows};
use crate::vector_store::index::{nearest, prepare};
use crate::vector_store::point::ScoredPoint;
use crate::vector_store::request::{Distance, SearchRequest};
use crate::{Error, ErrorKind, Result};

/// The vectors of a collection in the order of their rows in the file; the rank of a packed row is
/// its number in the file.
pub(super) struct Packed {
    pub(super) rows: Rows,
    /// The collection's version that they are of.
    pub(super) version: i64,
    /// The last row that was mapped just now: those behind it are still to be read, whatever their
    /// version.
    pub(super) mapped_to: Option<i64>,
}

impl Packed {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            rows: Rows::new(dimensions),
            version: 0,
            mapped_to: None,
        }
    }
}

impl SqliteStore {
    pub(super) fn search_points(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        if self.dimensions == 0 && !queries.is_empty() {
            let (name, known) = (String::new(), self.spaces.keys().cloned().collect());
            return Err(ErrorKind::UnknownVector { name, known }.into());
        }
        let distance = self.options.distance;
        let prepared = queries.iter().enumerate().map(|(index, query)| {
            let subject = || format!("query {index}");
            prepare(distance, query, self.dimensions, &self.name, &subject)
        });
        let prepared = prepared.collect::<Result<Vec<_>>>()?;
        let queries: Vec<&[f32]> = prepared.iter().map(AsRef::as_ref).collect();
        self.file.read(|state| {
            let mut packed = lock(&self.packed);
            self.refresh(state, &mut packed)?;
            let allowed = match &request.filter {
                None => Allowed::All,
                Some(filter) => {
                    let selection = super::Selection::Filter(filter.clone());
                    let rows = self.selected(state, &selection)?;
                    Allowed::of(rows.into_iter().map(|row| row as u32))
                }
            };
            let found = nearest(&packed.rows, distance, &queries, request, &allowed);
            let scored = |(score, row)| {
                let row = i64::from(packed.rows.rank(row));
                let point = point_at(state, row, request.with_vector)?;
                Ok(ScoredPoint { score, point })
            };
            let found = found
                .into_iter()
                .map(|rows| rows.into_iter().map(scored).collect())
                .collect::<rusqlite::Result<_>>();
            self.pack_if_it_pays(&mut packed);
            found.map_err(|error| self.file.at(error))
        })
    }

    /// Brings the packed rows to the state of the file.
    pub(super) fn refresh(&self, state: &Connection, packed: &mut Packed) -> Result<()> {
        let version = self.version(state)?;
        if version == packed.version {
            return Ok(());
        }
        let at = |error| self.file.at(error);
        let floor: i64 = state
            .prepare_cached("SELECT floor FROM collections WHERE id = ?1")
            .and_then(|mut select| select.query_row([self.id], |row| row.get(0)))
            .map_err(at)?;
        if packed.version < floor || packed.version == 0 {
            let mapped = Packed::mapped(self, state, floor).map_err(at)?;
            *packed = mapped.unwrap_or_else(|| Packed::new(self.dimensions));
        }
        // A reading that fails half-way is begun anew.
        let known = std::mem::replace(&mut packed.version, 0);
        let removed = self.changed(state, "removed", known).map_err(at)?;
        if !removed.is_empty() {
            packed
                .rows
                .retain_ranks(|rank| removed.binary_search(&i64::from(rank)).is_err());
        }
        let mut written = self.changed(state, "vectors", known).map_err(at)?;
        if let Some(last) = packed.mapped_to.take() {
            written.extend(self.behind(state, last).map_err(at)?);
            written.sort_unstable();
            written.dedup();
        }
        packed.rows.reserve(written.len());
        let mut select = state
            .prepare_cached("SELECT vector FROM vectors WHERE row = ?1")
            .map_err(at)?;
        for row in written {
            let mut found = select.query([row]).map_err(at)?;
            let vector = found.next().map_err(at)?;
            let vector = vector.ok_or_else(|| self.disagree(row))?;
            self.take(&mut packed.rows, row, vector)?;
        }
        packed.version = version;
        Ok(())
    }

    /// Packs the vector of a row, new or changed.
    fn take(&self, rows: &mut Rows, row: i64, vector: &Row<'_>) -> Result<()> {
        let blob = vector.get_ref(0).map_err(|error| self.file.at(error))?;
        let values: Vec<f32> = to_floats(blob.as_blob().unwrap_or_default()).collect();
        let distance: Distance = self.options.distance;
        let vector = prepare(distance, &values, self.dimensions, &self.name, &|| {
            format!("the vector in row {row}")
        });
        let vector = vector.map_err(|error| Error::corrupt(&self.file.path, error.to_string()))?;
        let rank = u32::try_from(row).map_err(|_| ErrorKind::Full {
            path: self.file.path.clone(),
        })?;
        match rows.row_of_rank(rank) {
            Ok(known) => rows.set(known, &vector),
            // Rows are numbered upwards, and read in their order.
            Err(place) if place == rows.len() => rows.push(vector.iter().copied(), rank),
            Err(_) => return Err(self.disagree(row)),
        }
        Ok(())
    }

    /// The rows in `table` of a later version than `known`, ascending.
    pub(super) fn changed(
        &self,
        state: &Connection,
        table: &str,
        known: i64,
    ) -> rusqlite::Result<Vec<i64>> {
        let select = format!("SELECT row FROM {table} WHERE collection = ?1 AND version > ?2");
        let mut select = state.prepare_cached(&select)?;
        let rows = select.query_map((self.id, known), |row| row.get(0))?;
        let mut rows = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
        rows.sort_unstable();
        Ok(rows)
    }

    /// The rows behind `last`.
    fn behind(&self, state: &Connection, last: i64) -> rusqlite::Result<Vec<i64>> {
        let select = "SELECT row FROM vectors WHERE row > ?1 AND collection = ?2";
        let mut select = state.prepare_cached(select)?;
        let rows = select.query_map((last, self.id), |row| row.get(0))?;
        rows.collect()
    }

    fn disagree(&self, row: i64) -> Error {
        Error::corrupt(
            &self.file.path,
            format!("row {row} of its vectors has no place"),
        )
    }
}
