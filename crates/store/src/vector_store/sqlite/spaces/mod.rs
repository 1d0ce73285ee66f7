//! Collections whose points have several vectors. They lie in a table of their own, by the point's row
//! and the name of their space; what a search reads is packed in memory, as that of other collections,
//! and kept in step with the file by the same versions.

mod search;
mod packed;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

pub(super) use self::packed::PackedSpace;
pub use self::search::{Combine, SpaceQuery};
use super::SqliteStore;
use super::read::id_to_sql;
use crate::vector_store::named::{NamedPoint, NamedVector, Space, UNNAMED, Vectors};
use crate::vector_store::point::{Point, PointId};
use crate::vector_store::request::{Existing, Selection};
use crate::{ErrorKind, Result};

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

    /// The row of the point with this id.
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
