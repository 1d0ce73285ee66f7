//! Proves that a collection agrees with itself.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::index::{index_path, verify_index};
use super::packed::{packed_path, packed_token};
use super::read::to_floats;
use super::{Collection, text};
use crate::rows::file;
use crate::{Error, Result};

/// What [`Collection::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What disagrees, in words; empty for a sound collection.
    pub problems: Vec<String>,
    /// The paths of the documents that have lost passages or vectors, in order. Only their source and
    /// the model bring those back: [`Collection::repair`] marks them as not indexed.
    pub incomplete_documents: Vec<String>,
}

impl CheckReport {
    /// True if nothing disagrees.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

const CHUNKS_WITHOUT_VECTOR: &str =
    "SELECT id FROM chunks WHERE id NOT IN (SELECT chunk FROM vectors)";
const VECTORS_WITHOUT_CHUNK: &str =
    "SELECT chunk FROM vectors WHERE chunk NOT IN (SELECT id FROM chunks)";
const CHUNKS_WITHOUT_DOCUMENT: &str =
    "SELECT id FROM chunks WHERE document NOT IN (SELECT id FROM documents)";
const DOCUMENTS_OF_ANOTHER_NUMBER: &str = "SELECT id FROM documents WHERE num_chunks <>
    (SELECT count(*) FROM chunks WHERE document = documents.id)";
const DOCUMENTS_WITH_GAPS: &str = "SELECT document FROM chunks GROUP BY document
    HAVING min(ordinal) <> 0 OR max(ordinal) <> count(*) - 1";

/// What must hold, each with a query that returns the rows for which it does not.
const RULES: [(&str, &str); 5] = [
    ("chunks without a vector", CHUNKS_WITHOUT_VECTOR),
    ("vectors without a chunk", VECTORS_WITHOUT_CHUNK),
    ("chunks without a document", CHUNKS_WITHOUT_DOCUMENT),
    (
        "documents with another number of chunks than noted",
        DOCUMENTS_OF_ANOTHER_NUMBER,
    ),
    (
        "documents with gaps between their chunks",
        DOCUMENTS_WITH_GAPS,
    ),
];

/// The documents that have lost something.
const LOSSES: [&str; 3] = [
    "SELECT DISTINCT document FROM chunks WHERE id NOT IN (SELECT chunk FROM vectors)",
    DOCUMENTS_OF_ANOTHER_NUMBER,
    DOCUMENTS_WITH_GAPS,
];

impl Collection {
    /// Reads the whole file and says what disagrees: pages and indexes (SQLite's `quick_check`),
    /// chunks, documents, vectors, text index and packed rows with each other, and the values of every
    /// vector.
    ///
    /// # Errors
    ///
    /// If the file is too damaged to be read.
    pub fn check(&self) -> Result<CheckReport> {
        let dimensions = self.info.space.dimensions;
        self.read(|connection| {
            // One state of the file for all the rules, whatever is written meanwhile.
            let state = connection.unchecked_transaction()?;
            let mut problems = quick_check(&state)?;
            for (rule, query) in RULES {
                let mut select = state.prepare(query)?;
                let ids = select.query_map([], |row| row.get(0))?;
                let ids = ids.collect::<rusqlite::Result<Vec<i64>>>()?;
                problems.extend(describe(rule, &ids));
            }
            let bad = bad_vectors(&state, dimensions)?;
            problems.extend(describe(
                "vectors of the wrong width, length or with NaN",
                &bad,
            ));
            if schema_version(&state)? >= 2 {
                problems.extend(describe(
                    "chunks whose terms in the text index are not those of their text",
                    &text::disagreeing(&state)?,
                ));
            }
            problems.extend(self.check_packed(&state)?);
            let incomplete = incomplete_documents(&state, &bad)?;
            Ok(CheckReport {
                problems,
                incomplete_documents: incomplete.into_iter().map(|(_, path)| path).collect(),
            })
        })
    }

    /// What of the file of packed rows is not as it was written, or not as in the collection.
    fn check_packed(&self, state: &Connection) -> rusqlite::Result<Vec<String>> {
        let dimensions = self.info.space.dimensions;
        let path = packed_path(&self.path);
        let Some(token) = packed_token(state)? else {
            return Ok(Vec::new());
        };
        if !file::verify(&path, token, dimensions) {
            return Ok(vec![format!("`{}` is damaged", path.display())]);
        }
        if !verify_index(&self.path, token) {
            let index = index_path(&self.path);
            return Ok(vec![format!("`{}` is damaged", index.display())]);
        }
        let Some((ids, rows)) = file::read(&path, token, dimensions) else {
            return Ok(Vec::new());
        };
        let mut select = state.prepare("SELECT chunk, vector FROM vectors ORDER BY chunk")?;
        let mut vectors = select.query([])?;
        let mut bad = Vec::new();
        while let Some(vector) = vectors.next()? {
            let id = vector.get(0)?;
            let blob = vector.get_ref(1)?.as_blob().unwrap_or_default();
            let Ok(row) = ids.binary_search(&id) else {
                continue;
            };
            if !to_floats(blob).eq(rows.row(row).iter().copied()) {
                bad.push(id);
            }
        }
        let rule = "packed vectors that are not those of their chunks";
        Ok(describe(rule, &bad).into_iter().collect())
    }
}

impl Collection {
    /// Writes the file anew without the room that removed documents left in it.
    ///
    /// # Errors
    ///
    /// If there is not as much space again on the disk, another process has the file, or it cannot
    /// be written; it is unchanged then.
    pub fn vacuum(&self) -> Result<()> {
        let writer = self.writer()?;
        let run = || {
            // What the index has of removed chunks goes too; then the log into the file.
            writer.execute_batch(
                "INSERT INTO chunk_terms (chunk_terms) VALUES ('optimize');
                 VACUUM;",
            )?;
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        run().map_err(|error| Error::sqlite(&self.path, error))
    }

    /// True if the file has a full-text index; one written before there was one gets it when it is
    /// opened to write.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn has_text_index(&self) -> Result<bool> {
        Ok(self.read(schema_version)? >= 2)
    }
}

pub(crate) fn describe(rule: &str, ids: &[i64]) -> Option<String> {
    let shown = &ids[..ids.len().min(10)];
    (!ids.is_empty()).then(|| format!("{} {rule}, such as those with ids {shown:?}", ids.len()))
}

fn schema_version(state: &Connection) -> rusqlite::Result<i64> {
    state.query_row("PRAGMA user_version", [], |row| row.get(0))
}

pub(crate) fn quick_check(state: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut select = state.prepare("PRAGMA quick_check")?;
    let lines = select.query_map([], |row| row.get::<_, String>(0))?;
    lines
        .filter(|line| line.as_ref().map_or(true, |line| line != "ok"))
        .collect()
}

/// The chunks whose vectors are not as they were written.
pub(super) fn bad_vectors(state: &Connection, dimensions: usize) -> rusqlite::Result<Vec<i64>> {
    let mut select = state.prepare("SELECT chunk, vector FROM vectors ORDER BY chunk")?;
    let mut vectors = select.query([])?;
    let mut bad = Vec::new();
    while let Some(vector) = vectors.next()? {
        let blob = vector.get_ref(1)?.as_blob().unwrap_or_default();
        if !is_sound(blob, dimensions) {
            bad.push(vector.get(0)?);
        }
    }
    Ok(bad)
}

/// True if the blob is a vector of unit length, as all are that were written.
pub(super) fn is_sound(blob: &[u8], dimensions: usize) -> bool {
    let squared: f32 = to_floats(blob).map(|value| value * value).sum();
    // A NaN fails the comparison too.
    blob.len() == dimensions * size_of::<f32>() && (squared - 1.0).abs() < 1e-3
}

/// The documents, with their paths, that have lost chunks or vectors, or have one of the `bad` vectors.
pub(super) fn incomplete_documents(
    state: &Connection,
    bad: &[i64],
) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut ids = BTreeSet::new();
    for query in LOSSES {
        let mut select = state.prepare(query)?;
        let found = select.query_map([], |row| row.get::<_, i64>(0))?;
        for id in found {
            ids.insert(id?);
        }
    }
    let mut select = state.prepare("SELECT document FROM chunks WHERE id = ?1")?;
    for chunk in bad {
        // A vector without a chunk belongs to no document.
        let document = select.query_row([chunk], |row| row.get::<_, i64>(0));
        ids.extend(document.optional()?);
    }
    let mut select = state.prepare("SELECT path FROM documents WHERE id = ?1")?;
    let mut documents = Vec::new();
    for id in ids {
        let path = select.query_row([id], |row| row.get::<_, String>(0));
        documents.extend(path.optional()?.map(|path| (id, path)));
    }
    documents.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(documents)
}
