//! Gives chunks that have lost their vector another one: their texts are still there.

use rusqlite::{Connection, OptionalExtension};

use super::check::bad_vectors;
use super::read::read_hit;
use super::{Collection, schema};
use crate::rows::to_unit;
use crate::{Hit, Result};

impl Collection {
    /// The chunks whose vector is lost or damaged, each with its document; their scores are 0.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn chunks_without_vector(&self) -> Result<Vec<Hit>> {
        let dimensions = self.info.space.dimensions;
        self.read(|state| {
            let mut ids = bad_vectors(state, dimensions)?;
            let select = "SELECT id FROM chunks WHERE id NOT IN (SELECT chunk FROM vectors)";
            let mut select = state.prepare(select)?;
            for id in select.query_map([], |row| row.get(0))? {
                ids.push(id?);
            }
            let hits = ids.into_iter().map(|id| read_hit(state, id, 0.0));
            // A damaged vector may belong to nothing.
            let hits = hits.filter_map(|hit| hit.optional().transpose());
            hits.collect()
        })
    }

    /// Puts `vectors`, each with the id of its chunk, in the place of lost or damaged ones, all or none.
    ///
    /// # Errors
    ///
    /// If a vector has another width than the collection or cannot be brought to unit length, or the file
    /// cannot be written.
    pub fn restore_vectors(&self, vectors: &[(i64, &[f32])]) -> Result<()> {
        let dimensions = self.info.space.dimensions;
        let blob = |(chunk, vector): &(i64, &[f32])| {
            let subject = || format!("the vector of chunk {chunk}");
            let unit = to_unit(vector, dimensions, &self.info.name, &subject)?;
            let values = unit.as_deref().unwrap_or(vector).iter();
            let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
            Ok((*chunk, bytes))
        };
        let blobs = vectors.iter().map(blob).collect::<Result<Vec<_>>>()?;
        self.write(|connection| put(connection, &blobs))?;
        // Packed rows may have the damaged one.
        self.forget_packed();
        Ok(())
    }
}

fn put(connection: &Connection, blobs: &[(i64, Vec<u8>)]) -> rusqlite::Result<()> {
    connection.execute_batch(schema::DROP_VECTOR_TRIGGERS)?;
    let replace =
        "INSERT OR REPLACE INTO vectors (chunk, vector) SELECT id, ?2 FROM chunks WHERE id = ?1";
    let mut replace = connection.prepare(replace)?;
    for (chunk, bytes) in blobs {
        replace.execute((chunk, bytes))?;
    }
    connection.execute_batch("DELETE FROM derived")?;
    connection.execute_batch(schema::VECTOR_TRIGGERS)
}
