//! The same chunks in another space: new vectors grow beside the old ones, then take their place.
//!
//! The new vectors lie in a table of their own, by chunk. Whoever goes on later asks which chunks have
//! none yet; chunks that were removed meanwhile are left out, new ones are among those asked for. The
//! last step puts all of them in place, and the collection's fingerprint, in one transaction.

use rusqlite::{Connection, OptionalExtension};

use super::Collection;
use super::open::MAX_DIMENSIONS;
use super::read::{json, read_hit};
use super::{Space, schema};
use crate::document::Hit;
use crate::rows::to_unit;
use crate::{Error, ErrorKind, Result};

const TABLES: &str = "
    CREATE TABLE next_space (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        fingerprint TEXT NOT NULL,
        dimensions INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE next_vectors (chunk INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;";

const PENDING: &str = "FROM chunks WHERE id NOT IN (SELECT chunk FROM next_vectors)";

/// How far a migration is.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// The space that the vectors will be in.
    pub space: Space,
    /// Chunks that have their new vector.
    pub num_done: u64,
    /// Chunks that have none yet.
    pub num_pending: u64,
}

impl Collection {
    /// The migration that was begun, if there is one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn migration(&self) -> Result<Option<Migration>> {
        self.read(|state| {
            let Some(space) = next_space(state)? else {
                return Ok(None);
            };
            let pending = format!("SELECT count(*), (SELECT count(*) FROM chunks) {PENDING}");
            let (pending, all) = state.query_row(&pending, [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?;
            Ok(Some(Migration {
                space,
                num_done: (all - pending).max(0) as u64,
                num_pending: pending.max(0) as u64,
            }))
        })
    }

    /// Begins to bring the collection's chunks into another space, or goes on with it. One to a
    /// third space is given up. Searches go on in the old space.
    ///
    /// # Errors
    ///
    /// If the space is the collection's own or has an impossible width, or the file cannot be
    /// written.
    pub fn begin_migration(&self, space: &Space) -> Result<()> {
        let received = space.dimensions;
        if !(1..=MAX_DIMENSIONS).contains(&received) {
            let max = MAX_DIMENSIONS;
            return Err(ErrorKind::Dimensions { received, max }.into());
        }
        if *space == self.info.space {
            let collection = self.info.name.clone();
            return Err(ErrorKind::SameSpace { collection }.into());
        }
        self.write(|connection| {
            match next_space(connection)? {
                Some(begun) if begun == *space => return Ok(()),
                Some(_) => drop_tables(connection)?,
                None => {}
            }
            connection.execute_batch(TABLES)?;
            let insert = "INSERT INTO next_space (id, fingerprint, dimensions) VALUES (1, ?1, ?2)";
            connection.execute(insert, (space.fingerprint.to_string(), received as i64))?;
            Ok(())
        })
    }

    /// Up to `limit` chunks that have no new vector yet, with their documents; none if all have, or
    /// no migration was begun.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn pending_chunks(&self, limit: usize) -> Result<Vec<Hit>> {
        self.read(|state| {
            if next_space(state)?.is_none() {
                return Ok(Vec::new());
            }
            let select = format!("SELECT id {PENDING} ORDER BY id LIMIT ?1");
            let mut select = state.prepare_cached(&select)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let ids = select.query_map([limit], |row| row.get(0))?;
            let ids = ids.collect::<rusqlite::Result<Vec<i64>>>()?;
            ids.into_iter().map(|id| read_hit(state, id, 0.0)).collect()
        })
    }

    /// Keeps the new vectors of chunks, at unit length. When this returns, they are on disk.
    ///
    /// # Errors
    ///
    /// If no migration was begun, a vector has the wrong width, NaN or no direction, or the file
    /// cannot be written; nothing is kept then.
    pub fn write_migrated(&self, vectors: &[(i64, impl AsRef<[f32]>)]) -> Result<()> {
        let space = self.read(next_space)?;
        let collection = self.info.name.clone();
        let space = space.ok_or(ErrorKind::NoMigration { collection })?;
        let mut rows = Vec::with_capacity(vectors.len());
        for (chunk, vector) in vectors {
            let vector = vector.as_ref();
            let subject = || format!("the new vector of chunk {chunk}");
            let unit = to_unit(vector, space.dimensions, &self.info.name, &subject)?;
            let values = unit.as_deref().unwrap_or(vector);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            rows.push((*chunk, bytes));
        }
        self.write(|connection| {
            // Another process may have begun with another model meanwhile.
            if next_space(connection)?.as_ref() != Some(&space) {
                return Ok(());
            }
            let insert = "INSERT OR REPLACE INTO next_vectors (chunk, vector) VALUES (?1, ?2)";
            let mut insert = connection.prepare_cached(insert)?;
            for row in &rows {
                insert.execute((row.0, &row.1))?;
            }
            Ok(())
        })
    }

    /// Puts the new vectors and their space in the place of the old ones, if every chunk has one;
    /// false if some have none. The collection is to be opened anew then: handles of the old space,
    /// this one included, refuse to search.
    ///
    /// # Errors
    ///
    /// If no migration was begun, or the file cannot be written; nothing has changed then.
    pub fn finish_migration(&self) -> Result<bool> {
        let collection = self.info.name.clone();
        let space = self.read(next_space)?;
        let space = space.ok_or(ErrorKind::NoMigration { collection })?;
        self.write(|connection| {
            let pending = format!("SELECT EXISTS (SELECT 1 {PENDING})");
            let is_pending: bool = connection.query_row(&pending, [], |row| row.get(0))?;
            if is_pending || next_space(connection)?.as_ref() != Some(&space) {
                return Ok(false);
            }
            put_in_place(connection, &space)?;
            Ok(true)
        })
    }

    /// Gives a migration up; says whether there was one. The old vectors are as they were.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn abandon_migration(&self) -> Result<bool> {
        self.write(|connection| {
            let begun = next_space(connection)?.is_some();
            if begun {
                drop_tables(connection)?;
            }
            Ok(begun)
        })
    }

    /// Refuses to search when the vectors are no longer in the space that the handle was opened for.
    pub(super) fn expect_same_state(&self, state: &Connection) -> Result<()> {
        let select = "SELECT fingerprint, dimensions FROM collection";
        let read = |row: &rusqlite::Row<'_>| Ok((json(row, 0)?, row.get::<_, i64>(1)?));
        let (fingerprint, dimensions) = state
            .query_row(select, [], read)
            .map_err(|error| Error::sqlite(&self.path, error))?;
        let own = &self.info.space;
        if dimensions == own.dimensions as i64 && fingerprint == own.fingerprint {
            return Ok(());
        }
        Err(ErrorKind::Migrated {
            collection: self.info.name.clone(),
        }
        .into())
    }
}

fn next_space(state: &Connection) -> rusqlite::Result<Option<Space>> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'next_space'";
    let table = state.query_row(table, [], |_| Ok(())).optional()?;
    if table.is_none() {
        return Ok(None);
    }
    let select = "SELECT fingerprint, dimensions FROM next_space";
    let space = |row: &rusqlite::Row<'_>| {
        Ok(Space {
            fingerprint: json(row, 0)?,
            dimensions: row.get::<_, i64>(1)?.try_into().unwrap_or(0),
        })
    };
    state.query_row(select, [], space).optional()
}

fn drop_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DROP TABLE next_vectors; DROP TABLE next_space;")
}

fn put_in_place(connection: &Connection, space: &Space) -> rusqlite::Result<()> {
    // Dropping the table forgets which ids were used: they must not be used again.
    let last = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'vectors'), 0)";
    let last: i64 = connection.query_row(last, [], |row| row.get(0))?;
    connection.execute_batch(schema::DROP_VECTOR_TRIGGERS)?;
    connection.execute_batch("DROP TABLE vectors;")?;
    connection.execute_batch(&schema::vector_tables(space.dimensions))?;
    connection.execute_batch(
        "INSERT INTO vectors (chunk, vector)
            SELECT id, vector FROM chunks JOIN next_vectors ON chunk = id ORDER BY id;
         DELETE FROM derived;",
    )?;
    connection.execute_batch("DELETE FROM sqlite_sequence WHERE name = 'vectors'")?;
    let sequence = "INSERT INTO sqlite_sequence (name, seq) VALUES ('vectors', ?1)";
    connection.execute(sequence, [last])?;
    let update = "UPDATE collection SET fingerprint = ?1, dimensions = ?2";
    let fingerprint = space.fingerprint.to_string();
    connection.execute(update, (fingerprint, space.dimensions as i64))?;
    drop_tables(connection)
}
