//! Proves that a collection agrees with itself.

use rusqlite::Connection;

use super::index::{index_path, verify_index, without_one};
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
}

impl CheckReport {
    /// True if nothing disagrees.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What must hold, each with a query that returns the rows for which it does not.
const RULES: [(&str, &str); 5] = [
    (
        "chunks without a vector",
        "SELECT id FROM chunks WHERE id NOT IN (SELECT chunk FROM vectors)",
    ),
    (
        "vectors without a chunk",
        "SELECT chunk FROM vectors WHERE chunk NOT IN (SELECT id FROM chunks)",
    ),
    (
        "chunks without a document",
        "SELECT id FROM chunks WHERE document NOT IN (SELECT id FROM documents)",
    ),
    (
        "documents with another number of chunks than noted",
        "SELECT id FROM documents WHERE num_chunks <>
            (SELECT count(*) FROM chunks WHERE document = documents.id)",
    ),
    (
        "documents with gaps between their chunks",
        "SELECT document FROM chunks GROUP BY document
            HAVING min(ordinal) <> 0 OR max(ordinal) <> count(*) - 1",
    ),
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
            problems.extend(describe(
                "vectors of the wrong width, length or with NaN",
                &bad_vectors(&state, dimensions)?,
            ));
            if schema_version(&state)? >= 2 {
                problems.extend(describe(
                    "chunks whose terms in the text index are not those of their text",
                    &text::disagreeing(&state)?,
                ));
            }
            problems.extend(self.check_packed(&state)?);
            Ok(CheckReport { problems })
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
    /// Makes anew what is derived from documents and vectors (SQLite's own indexes, the text index
    /// and the packed rows); then says what [`Collection::check`] still finds.
    ///
    /// Documents, chunks and vectors are never touched: what is lost of them comes back by indexing
    /// their source again.
    ///
    /// # Errors
    ///
    /// If the file is too damaged to be read, or cannot be written.
    pub fn repair(&self) -> Result<CheckReport> {
        // As it was made, or as it is to be if it cannot be read.
        let dimensions = self.info.space.dimensions;
        let was = self.index_info()?.map(|info| info.method());
        let wanted = self
            .search_method()?
            .wanted(self.num_vectors()?, dimensions);
        self.write(|connection| {
            connection.execute_batch("REINDEX; DELETE FROM derived;")?;
            text::rebuild(connection)
        })?;
        // The rows in memory may be those of the damaged file.
        self.forget_packed();
        match was.or(wanted) {
            Some(method) => {
                self.pack_rows()?;
                without_one(self.make_index(method, None, &self.work()))?;
            }
            None => self.pack_if_it_pays(&self.work())?,
        }
        self.check()
    }

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

fn bad_vectors(state: &Connection, dimensions: usize) -> rusqlite::Result<Vec<i64>> {
    let mut select = state.prepare("SELECT chunk, vector FROM vectors ORDER BY chunk")?;
    let mut vectors = select.query([])?;
    let mut bad = Vec::new();
    while let Some(vector) = vectors.next()? {
        let blob = vector.get_ref(1)?.as_blob().unwrap_or_default();
        let squared: f32 = to_floats(blob).map(|value| value * value).sum();
        // Vectors enter at unit length; a NaN fails the comparison too.
        let is_unit = (squared - 1.0).abs() < 1e-3;
        if blob.len() != dimensions * size_of::<f32>() || !is_unit {
            bad.push(vector.get(0)?);
        }
    }
    Ok(bad)
}
