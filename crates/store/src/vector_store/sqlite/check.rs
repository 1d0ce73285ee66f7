//! Proves that a file of points agrees with itself.

use rusqlite::{Connection, Row};

use super::packed::{self, Mark};
use super::{SqliteDatabase, SqliteStore, lock};
use crate::collection::{describe, quick_check, to_floats};
use crate::vector_store::index::prepare;
use crate::vector_store::named::NamedVector;
use crate::{CheckReport, Result};

/// What must hold, each with a query that returns the rows for which it does not.
const RULES: [(&str, &str); 6] = [
    (
        "points without a vector",
        "SELECT row FROM points WHERE row NOT IN (SELECT row FROM vectors)",
    ),
    (
        "vectors without a point",
        "SELECT row FROM vectors WHERE row NOT IN (SELECT row FROM points)",
    ),
    (
        "points of no collection",
        "SELECT row FROM points WHERE collection NOT IN (SELECT id FROM collections)",
    ),
    (
        "points and vectors of different collections, or of a version to come",
        "SELECT vectors.row FROM vectors JOIN points USING (row) JOIN collections
            ON collections.id = points.collection
            WHERE vectors.collection <> points.collection
                OR vectors.version > collections.version",
    ),
    (
        "named vectors without a point",
        "SELECT row FROM named_vectors WHERE row NOT IN (SELECT row FROM points)",
    ),
    (
        "named vectors of a space that their collection does not have",
        "SELECT points.row FROM named_vectors JOIN points USING (row)
            LEFT JOIN spaces ON spaces.collection = points.collection
                AND spaces.name = named_vectors.name
            WHERE spaces.name IS NULL",
    ),
];

impl SqliteDatabase {
    /// Reads the whole file and says what disagrees: pages and indexes (SQLite's `quick_check`),
    /// points, vectors and collections with each other, the values of every vector, and the text indexes
    /// and files of packed rows with them.
    ///
    /// # Errors
    ///
    /// If the file is too damaged to be read.
    pub fn check(&self) -> Result<CheckReport> {
        let stores: Vec<_> = self
            .collections()?
            .iter()
            .map(|name| self.collection(name))
            .collect::<Result<_>>()?;
        self.file.read(|state| {
            let run = || {
                let mut problems = quick_check(state)?;
                for (rule, query) in RULES {
                    let mut select = state.prepare(query)?;
                    let rows = select.query_map([], |row| row.get(0))?;
                    let rows = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
                    problems.extend(describe(rule, &rows));
                }
                for store in &stores {
                    problems.extend(store.check(state)?);
                    problems.extend(describe(
                        "points whose terms in the text index are not those of their text",
                        &store.disagreeing_texts(state)?,
                    ));
                }
                Ok(CheckReport {
                    problems,
                    ..CheckReport::default()
                })
            };
            run().map_err(|error| self.file.at(error))
        })
    }

    /// Makes anew what is derived of the points (SQLite's own indexes, text indexes and the files of
    /// packed rows); then says what [`SqliteDatabase::check`] still finds. Points and vectors are never touched.
    ///
    /// # Errors
    ///
    /// If the file is too damaged to be read, or cannot be written.
    pub fn repair(&self) -> Result<CheckReport> {
        {
            let writer = lock(&self.file.writer);
            writer
                .execute_batch("REINDEX")
                .map_err(|error| self.file.at(error))?;
        }
        for name in self.collections()? {
            let store = self.collection(&name)?;
            store.forget_packed()?;
            store.repair_text_index()?;
        }
        self.check()
    }

    /// Writes the file anew without the room that removed points left in it.
    ///
    /// # Errors
    ///
    /// If there is not as much space again on the disk, another process has the file, or it cannot
    /// be written; it is unchanged then.
    pub fn vacuum(&self) -> Result<()> {
        let writer = lock(&self.file.writer);
        let run = || {
            writer.execute_batch("VACUUM")?;
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        run().map_err(|error| self.file.at(error))
    }
}

impl SqliteStore {
    /// What is wrong with the values of the collection's vectors, and with its packed rows.
    fn check(&self, state: &Connection) -> rusqlite::Result<Vec<String>> {
        if self.dimensions == 0 {
            return self.check_spaces(state);
        }
        let mark = packed::mark(state, self.id)?;
        let mut problems = Vec::new();
        if let Some(damaged) = mark.and_then(|mark| packed::damaged(self, mark)) {
            problems.push(format!("`{}` is damaged", damaged.display()));
        }
        let packed = mark.and_then(|mark| packed::read(self, mark));
        let select = "SELECT row, version, vector FROM vectors WHERE collection = ?1 ORDER BY row";
        let mut select = state.prepare(select)?;
        let mut vectors = select.query([self.id])?;
        let (mut bad, mut other) = (Vec::new(), Vec::new());
        while let Some(vector) = vectors.next()? {
            let row: i64 = vector.get(0)?;
            let Some(values) = self.prepared(vector)? else {
                bad.push(row);
                continue;
            };
            let is_newer = |mark: Mark| Ok::<_, rusqlite::Error>(mark.version < vector.get(1)?);
            let (Some(mark), Some((ids, rows))) = (mark, &packed) else {
                continue;
            };
            if let Ok(place) = ids.binary_search(&row)
                && !is_newer(mark)?
                && rows.row(place) != values
            {
                other.push(row);
            }
        }
        let bad_rule = "vectors of the wrong width, with NaN or without direction";
        problems.extend(describe(bad_rule, &bad));
        let other_rule = "packed vectors that are not those of their points";
        problems.extend(describe(other_rule, &other));
        Ok(problems)
    }

    /// What is wrong with the values of the vectors in spaces.
    fn check_spaces(&self, state: &Connection) -> rusqlite::Result<Vec<String>> {
        let select = "SELECT row, name, named_vectors.vector FROM named_vectors
            JOIN vectors USING (row) WHERE collection = ?1 ORDER BY row";
        let mut select = state.prepare(select)?;
        let mut vectors = select.query([self.id])?;
        let mut bad = Vec::new();
        while let Some(vector) = vectors.next()? {
            let (name, blob): (String, Vec<u8>) = (vector.get(1)?, vector.get(2)?);
            let is_sound = self.spaces.get(&name).is_none_or(|space| {
                NamedVector::from_bytes(space, &blob)
                    .is_some_and(|vector| space.check_vector(&vector, &self.name, &name).is_ok())
            });
            if !is_sound {
                bad.push(vector.get(0)?);
            }
        }
        Ok(describe("named vectors that do not fit their spaces", &bad)
            .into_iter()
            .collect())
    }

    /// A vector as it is packed; `None` if it cannot be.
    fn prepared(&self, vector: &Row<'_>) -> rusqlite::Result<Option<Vec<f32>>> {
        let blob = vector.get_ref(2)?.as_blob().unwrap_or_default();
        let values: Vec<f32> = to_floats(blob).collect();
        let distance = self.options.distance;
        let vector = prepare(distance, &values, self.dimensions, &self.name, &String::new);
        let is_whole = blob.len() == self.dimensions * size_of::<f32>();
        Ok(vector.ok().filter(|_| is_whole).map(Into::into))
    }
}
