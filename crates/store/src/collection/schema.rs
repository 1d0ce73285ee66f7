//! The tables of a collection file, and how a file says that it is one.

use std::path::Path;

use rusqlite::{Connection, Row};

use super::{Space, text};
use crate::{Error, ErrorKind, Result};

/// `WNYI`, in the header of every collection file: `file` and SQLite tools can tell it by this.
pub(crate) const APPLICATION_ID: u32 = 0x574E_5949;

/// The version of the tables below, kept as `user_version`.
///
/// 1: documents, chunks, vectors. 2: the full-text index beside them (`text`).
/// 3: what marks the files beside it that are derived of it (`packed`).
pub(crate) const SCHEMA_VERSION: u32 = 3;

/// What is in the file that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nothing yet: no tables, no marks.
    Nothing,
    /// A collection with the tables of this version, [`SCHEMA_VERSION`] or older.
    Collection {
        /// As in the file.
        version: u32,
    },
}

/// Tells what the file holds; a file of another program or a newer version is refused.
pub(crate) fn identify(connection: &Connection, path: &Path) -> Result<Contents> {
    let number = |sql| connection.query_row(sql, [], |row: &Row<'_>| row.get::<_, i64>(0));
    let read = || {
        // One snapshot for the three: another process may be making the file just now. Inside a
        // transaction of the caller's there is one already.
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
        return Ok(Contents::Nothing);
    }
    let path = path.to_path_buf();
    if application_id == crate::vector_store::APPLICATION_ID {
        return Err(ErrorKind::PointsFile { path }.into());
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
        1..=SCHEMA_VERSION => Ok(Contents::Collection { version }),
        0 => Err(Error::corrupt(&path, "it has no schema version")),
        received => Err(ErrorKind::NewerSchema {
            path,
            supported: SCHEMA_VERSION,
            received,
        }
        .into()),
    }
}

/// The statements that make an empty collection of version 1 for vectors of `space`; the later
/// versions' tables come by upgrading it, so that new files and old ones cannot differ.
///
/// - A chunk comes after its vector and a vector leaves after its chunk, so no committed chunk is
///   without one, whatever program writes. (The reverse is a foreign key, checked at the commit.)
/// - Vectors lie in a table of their own, in the order of their ids, so that opening reads them in
///   one sweep past no text. Their ids are never used twice and their values never change in
///   place, so a reader that knows a chunk's vector needs not read it again.
/// - Ids of chunks are those of vectors; `num_chunks` tells a document that lost some.
pub(crate) fn tables(space: &Space) -> String {
    let vectors = vector_tables(space.dimensions);
    format!(
        "CREATE TABLE collection (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            name TEXT NOT NULL,
            created_ms INTEGER NOT NULL,
            fingerprint TEXT NOT NULL,
            dimensions INTEGER NOT NULL,
            chunking TEXT NOT NULL
        ) STRICT;
        CREATE TABLE documents (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL UNIQUE,
            content_hash TEXT NOT NULL,
            size INTEGER NOT NULL,
            modified_ns INTEGER NOT NULL,
            title TEXT,
            metadata TEXT NOT NULL,
            num_chunks INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE chunks (
            id INTEGER PRIMARY KEY,
            document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            ordinal INTEGER NOT NULL,
            span_start INTEGER NOT NULL,
            span_end INTEGER NOT NULL,
            first_line INTEGER NOT NULL,
            last_line INTEGER NOT NULL,
            heading_path TEXT NOT NULL,
            num_tokens INTEGER NOT NULL,
            text TEXT NOT NULL,
            UNIQUE (document, ordinal)
        ) STRICT;
        {vectors}
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = 1;"
    )
}

/// The table of vectors and what ties it to that of the chunks.
pub(super) fn vector_tables(dimensions: usize) -> String {
    let bytes = dimensions * size_of::<f32>();
    format!(
        "CREATE TABLE vectors (
            chunk INTEGER PRIMARY KEY AUTOINCREMENT
                REFERENCES chunks (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
            vector BLOB NOT NULL CHECK (length(vector) = {bytes})
        ) STRICT;
        {VECTOR_TRIGGERS}"
    )
}

/// What keeps other programs, and our own mistakes, from parting chunks and vectors.
pub(super) const VECTOR_TRIGGERS: &str = "
    CREATE TRIGGER chunks_have_vectors BEFORE INSERT ON chunks
        WHEN NOT EXISTS (SELECT 1 FROM vectors WHERE chunk = new.id)
        BEGIN SELECT RAISE(ABORT, 'a chunk without a vector'); END;
    CREATE TRIGGER vectors_outlive_chunks BEFORE DELETE ON vectors
        WHEN EXISTS (SELECT 1 FROM chunks WHERE id = old.chunk)
        BEGIN SELECT RAISE(ABORT, 'a chunk would lose its vector'); END;
    CREATE TRIGGER vectors_never_change BEFORE UPDATE ON vectors
        BEGIN SELECT RAISE(ABORT, 'a vector is replaced, not changed'); END;";

/// Takes [`VECTOR_TRIGGERS`] away, those that are there.
pub(super) const DROP_VECTOR_TRIGGERS: &str = "
    DROP TRIGGER IF EXISTS chunks_have_vectors;
    DROP TRIGGER IF EXISTS vectors_outlive_chunks;
    DROP TRIGGER IF EXISTS vectors_never_change;";

/// Brings the tables and marks of a collection to [`SCHEMA_VERSION`], in the caller's transaction.
pub(crate) fn upgrade(connection: &Connection, version: u32) -> rusqlite::Result<()> {
    if version < 2 {
        connection.execute_batch(&text::tables())?;
        text::rebuild(connection)?;
    }
    if version < 3 {
        connection.execute_batch(
            "CREATE TABLE derived (name TEXT PRIMARY KEY, token INTEGER NOT NULL) STRICT;",
        )?;
    }
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)
}
