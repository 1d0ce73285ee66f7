//! Changes points: one transaction a call, whole or not at all.

use std::collections::HashSet;

use rusqlite::Connection;
use rusqlite::types::Value as Sql;

use super::read::{id_to_sql, payload_from};
use super::{SqliteStore, text};
use crate::vector_store::index::check_points;
use crate::vector_store::point::Point;
use crate::vector_store::request::{Existing, PayloadChange, Selection};
use crate::{ErrorKind, Result};

const INSERT_POINT: &str = "
    INSERT INTO points (collection, id, payload, text) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (collection, id) DO UPDATE SET payload = excluded.payload, text = excluded.text
    RETURNING row";

const INSERT_VECTOR: &str = "
    INSERT INTO vectors (row, collection, version, vector) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (row) DO UPDATE SET version = excluded.version, vector = excluded.vector";

/// Notes of removed points that are kept for readers of older versions; with more, a reader that
/// is further behind reads all again.
const MAX_REMOVED: i64 = 100_000;

impl SqliteStore {
    pub(super) fn write_points(&self, points: &[Point], existing: Existing) -> Result<()> {
        if self.dimensions == 0 && !points.is_empty() {
            let known = self.spaces.keys().cloned().collect();
            let name = String::new();
            return Err(ErrorKind::UnknownVector { name, known }.into());
        }
        let dimensions = Some(self.dimensions);
        check_points(self.options.distance, points, dimensions, &self.name)?;
        if existing == Existing::Refuse {
            let mut seen = HashSet::new();
            if let Some(twice) = points.iter().find(|point| !seen.insert(&point.id)) {
                let id = twice.id.to_string();
                return Err(ErrorKind::DuplicateId { id }.into());
            }
        }
        self.change(|connection, version| {
            for point in points {
                if existing == Existing::Refuse && self.row_of(connection, &point.id)?.is_some() {
                    let id = point.id.to_string();
                    return Err(ErrorKind::DuplicateId { id }.into());
                }
                self.write_point(connection, version, point)
                    .map(drop)
                    .map_err(|error| self.file.at(error))?;
            }
            Ok(())
        })
    }

    pub(super) fn remove_points(&self, selection: &Selection) -> Result<u64> {
        self.change(|connection, version| {
            let rows = self.selected(connection, selection)?;
            let run = || {
                let mut delete = connection.prepare_cached("DELETE FROM points WHERE row = ?1")?;
                for row in &rows {
                    delete.execute([row])?;
                }
                forget_old(connection, self.id, version)
            };
            run().map_err(|error| self.file.at(error))?;
            Ok(rows.len() as u64)
        })
    }

    pub(super) fn write_payloads(
        &self,
        selection: &Selection,
        change: &PayloadChange,
    ) -> Result<u64> {
        self.change(|connection, _| {
            let rows = self.selected(connection, selection)?;
            let run = || {
                let select = "SELECT payload FROM points WHERE row = ?1";
                let mut select = connection.prepare_cached(select)?;
                let update = "UPDATE points SET payload = ?2 WHERE row = ?1";
                let mut update = connection.prepare_cached(update)?;
                for row in &rows {
                    let mut payload = select.query_row([row], |row| payload_from(row, 0))?;
                    change.apply(&mut payload);
                    let payload = serde_json::Value::from(payload).to_string();
                    update.execute((row, payload))?;
                }
                Ok(())
            };
            run().map_err(|error| self.file.at(error))?;
            Ok(rows.len() as u64)
        })
    }

    /// Runs `change` with the collection's next version.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&Connection, i64) -> Result<T>,
    ) -> Result<T> {
        self.file.write(|connection| {
            let version = self.version(connection)? + 1;
            connection
                .prepare_cached("UPDATE collections SET version = ?2 WHERE id = ?1")
                .and_then(|mut update| update.execute((self.id, version)))
                .map_err(|error| self.file.at(error))?;
            change(connection, version)
        })
    }

    /// Writes a point that was checked; its row.
    pub(super) fn write_point(
        &self,
        connection: &Connection,
        version: i64,
        point: &Point,
    ) -> rusqlite::Result<i64> {
        let payload = serde_json::to_string(&point.payload)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let values: (i64, Sql, String, &str) =
            (self.id, id_to_sql(&point.id), payload, &point.text);
        let row: i64 = connection
            .prepare_cached(INSERT_POINT)?
            .query_row(values, |row| row.get(0))?;
        let bytes: Vec<u8> = point.vector.iter().flat_map(|v| v.to_le_bytes()).collect();
        connection
            .prepare_cached(INSERT_VECTOR)?
            .execute((row, self.id, version, bytes))?;
        text::write(connection, self.id, row, &point.text)?;
        Ok(row)
    }
}

/// Drops the oldest notes of removed points where there are too many.
fn forget_old(connection: &Connection, collection: i64, version: i64) -> rusqlite::Result<()> {
    let count = "SELECT count(*) FROM removed WHERE collection = ?1";
    let count: i64 = connection
        .prepare_cached(count)?
        .query_row([collection], |row| row.get(0))?;
    if count > MAX_REMOVED {
        let delete = "DELETE FROM removed WHERE collection = ?1 AND version < ?2";
        connection.execute(delete, (collection, version))?;
        let update = "UPDATE collections SET floor = ?2 WHERE id = ?1";
        connection.execute(update, (collection, version - 1))?;
    }
    Ok(())
}
