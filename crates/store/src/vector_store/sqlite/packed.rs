//! The file of packed rows beside a file of points, one for each large collection.
//!
//! It is of one version of its collection: what was written and removed since is read from the points
//! (`search`). A token kept with that version says that the file is of these very points.

use std::path::{Path, PathBuf};
use std::sync::TryLockError;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::search::Packed;
use super::{File, SqliteStore, lock};
use crate::collection::BUSY_TIMEOUT;
use crate::rows::{Rows, file};
use crate::{Error, ErrorKind, Result};

/// Rows that are read from SQLite in some 20 ms: fewer are not worth a file.
const WORTH_A_FILE: usize = 4096;

/// If a search had to read more than this part of the rows, it writes the file for the next one.
const UNPACKED_PART: usize = 8;

/// Made when it is needed first, so that files of earlier programs have none.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS derived (
        collection INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        token INTEGER NOT NULL
    ) STRICT";

/// What the file of a collection must be marked with, and the version it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) version: i64,
    token: i64,
}

impl Packed {
    /// The rows of the file beside the points, if there is one of this state or an earlier one.
    pub(super) fn mapped(
        store: &SqliteStore,
        state: &Connection,
        floor: i64,
    ) -> rusqlite::Result<Option<Self>> {
        let Some(mark) = mark(state, store.id)?.filter(|mark| mark.version >= floor) else {
            return Ok(None);
        };
        let Some((ids, mut rows)) = read(store, mark) else {
            return Ok(None);
        };
        let ranks: Option<Vec<u32>> = ids.into_iter().map(|id| u32::try_from(id).ok()).collect();
        Ok(ranks.map(|ranks| {
            let last = ranks.last().copied();
            let mut ranks = ranks.into_iter();
            rows.retain(|_| ranks.next());
            Self {
                rows,
                version: mark.version,
                mapped_to: last.map(i64::from),
            }
        }))
    }
}

impl SqliteStore {
    /// Writes the packed rows to a file beside the points, from which later handles map them instead
    /// of reading every vector; says how many it holds. It is made by itself where it pays, and may be
    /// removed at any time.
    ///
    /// # Errors
    ///
    /// If the points cannot be read or the file cannot be written.
    pub fn pack(&self) -> Result<usize> {
        let mut packed = lock(&self.packed);
        self.file.read(|state| self.refresh(state, &mut packed))?;
        self.pack_rows(&mut packed)
    }

    /// Removes the file of packed rows; the next search reads the points, and packs them again if that
    /// pays.
    pub(super) fn forget_packed(&self) -> Result<()> {
        let mut packed = lock(&self.packed);
        self.file.write(|connection| {
            let delete = || -> rusqlite::Result<()> {
                connection.execute_batch(TABLE)?;
                let delete = "DELETE FROM derived WHERE collection = ?1";
                connection.execute(delete, [self.id]).map(drop)
            };
            delete().map_err(|error| self.file.at(error))
        })?;
        remove(&self.file, self.id);
        *packed = Packed::new(self.dimensions);
        Ok(())
    }

    /// Packs if most of the rows had to be read from SQLite. What goes wrong is left for the next
    /// time: the rows are there.
    pub(super) fn pack_if_it_pays(&self, packed: &mut Packed) {
        let (all, mapped) = (packed.rows.len(), packed.rows.base());
        if all - mapped > WORTH_A_FILE.max(all / UNPACKED_PART) {
            let _ = self.pack_rows(packed);
        }
    }

    fn pack_rows(&self, packed: &mut Packed) -> Result<usize> {
        let at = |error| self.file.at(error);
        let rows = &packed.rows;
        let live = (0..rows.len()).filter(|&row| rows.is_live(row));
        let ids: Vec<i64> = live.map(|row| i64::from(rows.rank(row))).collect();
        // Whoever writes has the lock: searches do not wait for that.
        let mut writer = match self.file.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(rows.base()),
        };
        let token: i64 = writer
            .query_row("SELECT random()", [], |row| row.get(0))
            .map_err(at)?;
        let path = packed_path(&self.file, self.id);
        let mut new = path.clone().into_os_string();
        new.push(format!("-{token:x}.new"));
        let new = PathBuf::from(new);
        let version = packed.version;
        let mut put = || -> Result<usize> {
            let io = |source| {
                let path = new.clone();
                Error::from(ErrorKind::Io { path, source })
            };
            let num_rows = file::write(&new, token, &ids, rows).map_err(io)?;
            // Nor do they wait for another process.
            writer.busy_timeout(Duration::ZERO).map_err(at)?;
            let transaction = writer
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(at)?;
            let mark = (self.id, version, token);
            transaction.execute_batch(TABLE).map_err(at)?;
            let upsert = "INSERT OR REPLACE INTO derived (collection, version, token)
                          VALUES (?1, ?2, ?3)";
            transaction.execute(upsert, mark).map_err(at)?;
            std::fs::rename(&new, &path).map_err(io)?;
            transaction.commit().map_err(at)?;
            Ok(num_rows)
        };
        let done = put();
        writer.busy_timeout(BUSY_TIMEOUT).map_err(at)?;
        if done.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        let num_rows = done?;
        drop(writer);
        // The next search maps what was just written.
        *packed = Packed::new(self.dimensions);
        Ok(num_rows)
    }
}

/// Removes the file of a collection that is gone.
pub(super) fn remove(file: &File, collection: i64) {
    let _ = std::fs::remove_file(packed_path(file, collection));
}

/// The ids and rows of the collection's file, if it has this mark.
pub(super) fn read(store: &SqliteStore, mark: Mark) -> Option<(Vec<i64>, Rows)> {
    let path = packed_path(&store.file, store.id);
    file::read(&path, mark.token, store.dimensions)
}

/// The path of the collection's file, if it has this mark and is not what was written.
pub(super) fn damaged(store: &SqliteStore, mark: Mark) -> Option<PathBuf> {
    let path = packed_path(&store.file, store.id);
    let is_sound = file::verify(&path, mark.token, store.dimensions);
    (!is_sound).then_some(path)
}

fn packed_path(file: &File, collection: i64) -> PathBuf {
    let path: &Path = &file.path;
    let mut packed = path.as_os_str().to_owned();
    packed.push(format!("-vectors-{collection}"));
    packed.into()
}

pub(super) fn mark(state: &Connection, collection: i64) -> rusqlite::Result<Option<Mark>> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'derived'";
    let table = state.query_row(table, [], |_| Ok(())).optional()?;
    if table.is_none() {
        return Ok(None);
    }
    let select = "SELECT version, token FROM derived WHERE collection = ?1";
    let mark = |row: &rusqlite::Row<'_>| {
        Ok(Mark {
            version: row.get(0)?,
            token: row.get(1)?,
        })
    };
    state.query_row(select, [collection], mark).optional()
}
