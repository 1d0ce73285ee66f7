//! A store in one SQLite file, which may hold many collections.
//!
//! `schema` has the tables, `open` makes and opens files and collections, `write` changes points in
//! one transaction a call, `search` keeps the vectors packed in memory and in step with the file,
//! `packed` keeps those of large collections in a file of their own,
//! `read` brings points back, `spaces` has the points that have several vectors, `text` finds points by
//! their words too, `check` proves that the file agrees with itself.
//!
//! A handle has one connection that writes and one that reads, so a search never waits for a
//! write. Other handles and processes may read while one writes; writers take turns.

mod schema;
mod open;
mod write;
mod search;
mod packed;
mod read;
mod spaces;
mod text;
mod check;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde_json::Value;

pub(crate) use self::schema::APPLICATION_ID;
use self::search::Packed;
use self::spaces::PackedSpace;
pub use self::spaces::{Combine, SpaceQuery};
use super::VectorStore;
use super::named::Space;
use super::point::{Point, PointId, ScoredPoint};
use super::request::{
    Existing, Page, PayloadChange, Scroll, SearchRequest, Selection, StoreInfo, StoreOptions,
};
use crate::{Error, Result};

/// A file of collections of points.
pub struct SqliteDatabase {
    file: Arc<File>,
    /// The collections that were opened: their packed rows are read once, whoever asks.
    stores: Mutex<HashMap<String, Arc<SqliteStore>>>,
}

/// A collection of points in an SQLite file.
pub struct SqliteStore {
    file: Arc<File>,
    /// Its number in the file; never given to another collection.
    id: i64,
    name: String,
    options: StoreOptions,
    /// Width of the vectors that have no name; 0 if the spaces have all of them.
    dimensions: usize,
    packed: Mutex<Packed>,
    spaces: BTreeMap<String, Space>,
    packed_spaces: Mutex<HashMap<String, PackedSpace>>,
}

/// The file with its connections.
struct File {
    path: PathBuf,
    // The writer is closed last: only a connection that may write can fold the log into the file.
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl File {
    fn at(&self, error: rusqlite::Error) -> Error {
        Error::sqlite(&self.path, error)
    }

    /// Runs `change` in one transaction: on an error nothing of it stays.
    fn write<T>(&self, change: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        // Immediate: the write lock is waited for here, not in the middle of the change.
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| self.at(error))?;
        let value = change(&transaction)?;
        transaction.commit().map_err(|error| self.at(error))?;
        Ok(value)
    }

    /// Runs `read` on one state of the file, whatever is written meanwhile.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let reader = lock(&self.reader);
        let state = reader
            .unchecked_transaction()
            .map_err(|error| self.at(error))?;
        read(&state)
    }
}

impl SqliteStore {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The collection's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the collection's last change; 0 before the first one. It only grows.
    ///
    /// # Errors
    ///
    /// If the collection was removed, or the file cannot be read.
    pub fn last_change(&self) -> Result<u64> {
        self.file
            .read(|state| Ok(self.version(state)?.unsigned_abs()))
    }

    /// Replaces what the caller wanted to know again ([`StoreOptions::metadata`]).
    ///
    /// # Errors
    ///
    /// If the collection was removed, or the file cannot be written.
    pub fn set_metadata(&self, metadata: &Value) -> Result<()> {
        self.file.write(|connection| {
            self.version(connection)?;
            let update = "UPDATE collections SET metadata = ?2 WHERE id = ?1";
            connection
                .execute(update, (self.id, metadata.to_string()))
                .map_err(|error| self.file.at(error))?;
            Ok(())
        })
    }

    /// The metadata as they are now: another handle may have replaced them.
    fn metadata(&self) -> Result<Value> {
        self.file.read(|state| {
            let found = open::read_collection(&self.file, state, &self.name)?;
            let found = found.filter(|(id, ..)| *id == self.id);
            found
                .map(|(_, options, _)| options.metadata)
                .ok_or_else(|| open::unknown(&self.file, &self.name))
        })
    }

    /// The number of the collection's last change; refuses a collection that was removed.
    fn version(&self, state: &Connection) -> Result<i64> {
        let select = "SELECT version FROM collections WHERE id = ?1";
        let version = state
            .prepare_cached(select)
            .and_then(|mut select| select.query_row([self.id], |row| row.get(0)).optional())
            .map_err(|error| self.file.at(error))?;
        version.ok_or_else(|| open::unknown(&self.file, &self.name))
    }
}

impl VectorStore for SqliteStore {
    fn info(&self) -> Result<StoreInfo> {
        let num_points = self.count(&Selection::All)?;
        Ok(StoreInfo {
            name: self.name.clone(),
            dimensions: (self.dimensions > 0).then_some(self.dimensions),
            distance: self.options.distance,
            metadata: self.metadata()?,
            num_points,
        })
    }

    fn put(&self, points: &[Point], existing: Existing) -> Result<()> {
        self.write_points(points, existing)
    }

    fn delete(&self, selection: &Selection) -> Result<u64> {
        self.remove_points(selection)
    }

    fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        self.read_points(ids)
    }

    fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        self.read_page(scroll)
    }

    fn count(&self, selection: &Selection) -> Result<u64> {
        self.count_points(selection)
    }

    fn search_batch(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        self.search_points(queries, request)
    }

    fn change_payload(&self, selection: &Selection, change: &PayloadChange) -> Result<u64> {
        self.write_payloads(selection, change)
    }
}

impl fmt::Debug for SqliteDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteDatabase")
            .field("path", &self.file.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.file.path)
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A thread that panicked has rolled its transaction back, so what it held is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
