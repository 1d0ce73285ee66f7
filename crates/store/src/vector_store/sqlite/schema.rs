//! The tables of a file of points, and how a file says that it is one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::{Error, ErrorKind, Result};

/// `WNYP`, in the header of every file of points.
pub(crate) const APPLICATION_ID: u32 = 0x574E_5950;

/// The version of the tables below, kept as `user_version`.
pub(super) const SCHEMA_VERSION: u32 = 3;

/// The statements that make an empty file of this version.
///
/// - A point keeps its row for life, and rows are never used twice: their order is the order in
///   which points came. Ids are unique in a collection; a number n is kept as n - 2⁶³, so that all
///   of them fit and keep their order, before the texts.
/// - Vectors lie in a table of their own, so that reading them passes over no text. `version` is the
///   collection's when the vector was written: a reader that knows an older version reads only what
///   came since, and learns what left from `removed`, which goes back to the version `floor`.
/// - A point leaves with its vector and a note in `removed`, whatever program deletes it.
const TABLES: &str = "
    CREATE TABLE collections (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        dimensions INTEGER NOT NULL,
        distance TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        floor INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE points (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        collection INTEGER NOT NULL REFERENCES collections (id),
        id ANY NOT NULL,
        payload TEXT NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (collection, id)
    ) STRICT;
    CREATE TABLE vectors (
        row INTEGER PRIMARY KEY
            REFERENCES points (row) DEFERRABLE INITIALLY DEFERRED,
        collection INTEGER NOT NULL,
        version INTEGER NOT NULL,
        vector BLOB NOT NULL
    ) STRICT;
    CREATE INDEX vectors_by_version ON vectors (collection, version);
    CREATE TABLE removed (
        collection INTEGER NOT NULL,
        version INTEGER NOT NULL,
        row INTEGER NOT NULL,
        PRIMARY KEY (collection, version, row)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER points_leave AFTER DELETE ON points BEGIN
        INSERT INTO removed
            SELECT old.collection, version, old.row FROM collections WHERE id = old.collection;
        DELETE FROM vectors WHERE row = old.row;
    END;";

/// What version 2 added: points with several vectors, each in the space of its name (`spaces` of the
/// collection); the row in `vectors` of such a point is empty, and tells the version.
const SPACES: &str = "
    CREATE TABLE spaces (
        collection INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        space TEXT NOT NULL,
        PRIMARY KEY (collection, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE named_vectors (
        row INTEGER NOT NULL,
        name TEXT NOT NULL,
        vector BLOB NOT NULL,
        PRIMARY KEY (row, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER points_leave_spaces AFTER DELETE ON points BEGIN
        DELETE FROM named_vectors WHERE row = old.row;
    END;";

/// What version 3 added: collections with a full-text index (`text`), told by the version of the analysis
/// that it was made by. An older build would write points past the index.
const TEXT_INDEX: &str =
    "ALTER TABLE collections ADD COLUMN text_analysis INTEGER NOT NULL DEFAULT 0;";

/// Brings a file of an earlier version to this one.
pub(super) fn upgrade(connection: &mut Connection, path: &Path) -> Result<()> {
    let mut run = || {
        let version = |connection: &Connection| -> rusqlite::Result<u32> {
            connection.query_row("PRAGMA user_version", [], |row| row.get(0))
        };
        if version(connection)? == SCHEMA_VERSION {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been quicker.
        let found = version(&transaction)?;
        if found < 2 {
            transaction.execute_batch(SPACES)?;
        }
        if found < 3 {
            transaction.execute_batch(TEXT_INDEX)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        transaction.commit()
    };
    run().map_err(|error| Error::sqlite(path, error))
}

/// Tells whether the file is empty; one of another program or a newer version is refused.
pub(super) fn is_empty(connection: &Connection, path: &Path) -> Result<bool> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = || {
        // One snapshot for the three: another process may be making the file just now.
        let _snapshot = match connection.is_autocommit() {
            true => Some(connection.unchecked_transaction()?),
            false => None,
        };
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_master")?,
        ))
    };
    let (application_id, version, tables) = read().map_err(|error| Error::sqlite(path, error))?;
    // SQLite keeps both as signed 32-bit numbers; only their bits matter.
    let (application_id, version) = (application_id as u32, version as u32);
    if (application_id, version, tables) == (0, 0, 0) {
        return Ok(true);
    }
    let path = path.to_path_buf();
    if application_id == crate::collection::APPLICATION_ID {
        return Err(ErrorKind::DocumentsFile { path }.into());
    }
    if application_id != APPLICATION_ID {
        return Err(ErrorKind::NotWenyi {
            path,
            application_id,
            expected: APPLICATION_ID,
        }
        .into());
    }
    match version {
        1..=SCHEMA_VERSION => Ok(false),
        0 => Err(Error::corrupt(&path, "it has no schema version")),
        received => Err(ErrorKind::NewerSchema {
            path,
            supported: SCHEMA_VERSION,
            received,
        }
        .into()),
    }
}

/// Makes the tables, in the caller's transaction.
pub(super) fn make(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.execute_batch(SPACES)?;
    connection.execute_batch(TEXT_INDEX)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)
}
