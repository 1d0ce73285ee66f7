//! Replaces and removes documents, each whole or not at all.

use rusqlite::{Connection, TransactionBehavior};

use super::{Collection, text};
use crate::document::{Chunk, Document, NewDocument};
use crate::rows::to_unit;
use crate::{Error, ErrorKind, Result};

const UPSERT_DOCUMENT: &str = "
    INSERT INTO documents (path, content_hash, size, modified_ns, title, metadata, num_chunks)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (path) DO UPDATE SET
        content_hash = excluded.content_hash, size = excluded.size,
        modified_ns = excluded.modified_ns, title = excluded.title,
        metadata = excluded.metadata, num_chunks = excluded.num_chunks
    RETURNING id";

const INSERT_CHUNK: &str = "
    INSERT INTO chunks (id, document, ordinal, span_start, span_end, first_line, last_line,
                        heading_path, num_tokens, text)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

impl Collection {
    /// Adds a document, or replaces the one with its path, chunks and vectors included.
    ///
    /// When this returns, the document is on disk; if it fails, the earlier one is there unchanged.
    /// A vector of unit length is kept bit for bit, another one at unit length.
    ///
    /// # Errors
    ///
    /// If vectors and chunks disagree in number, a vector has the wrong width, NaN or no direction
    /// (nothing has happened then), or the file cannot be written.
    pub fn upsert_document(&self, document: &NewDocument) -> Result<()> {
        self.upsert_documents(std::slice::from_ref(document))
    }

    /// [`Collection::upsert_document`] for many: all of them or none, at the cost of one sync.
    /// Of two with the same path the later one stays.
    ///
    /// # Errors
    ///
    /// As [`Collection::upsert_document`].
    pub fn upsert_documents(&self, documents: &[NewDocument]) -> Result<()> {
        let prepared = documents
            .iter()
            .map(|new| self.prepare(new))
            .collect::<Result<Vec<_>>>()?;
        self.write(|connection| {
            for (new, units) in documents.iter().zip(&prepared) {
                upsert(connection, new, units.as_deref().unwrap_or(&new.vectors))?;
            }
            Ok(())
        })
    }

    /// Removes the documents with these paths; says how many there were.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; nothing is removed then.
    pub fn remove_documents(&self, paths: &[impl AsRef<str>]) -> Result<usize> {
        self.write(|connection| {
            let mut delete = connection.prepare_cached("DELETE FROM documents WHERE path = ?1")?;
            paths
                .iter()
                .map(|path| delete.execute([path.as_ref()]))
                .sum()
        })
    }

    /// Notes that a document's source has a new size or date although its content is the same.
    /// Says whether there is such a document.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn touch_document(&self, path: &str, size: u64, modified_ns: i64) -> Result<bool> {
        Ok(self.touch_documents(&[(path, size, modified_ns)])? > 0)
    }

    /// [`Collection::touch_document`] for many `(path, size, modified_ns)` at the cost of one sync;
    /// says how many of them are there.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; nothing is noted then.
    pub fn touch_documents(&self, documents: &[(impl AsRef<str>, u64, i64)]) -> Result<usize> {
        for (path, size, _) in documents {
            integer(path.as_ref(), "size", *size)?;
        }
        self.write(|connection| {
            let update = "UPDATE documents SET size = ?2, modified_ns = ?3 WHERE path = ?1";
            let mut update = connection.prepare_cached(update)?;
            documents
                .iter()
                .map(|(path, size, modified_ns)| {
                    update.execute((path.as_ref(), checked(*size), modified_ns))
                })
                .sum()
        })
    }

    /// Runs `change` in one transaction: on an error nothing of it stays.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut writer = self.writer()?;
        let run = || {
            // Immediate: the write lock is waited for here, not in the middle of the change.
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| Error::sqlite(&self.path, error))
    }

    /// Refuses what cannot be kept; the vectors at unit length if they are not so already.
    fn prepare(&self, new: &NewDocument) -> Result<Option<Vec<f32>>> {
        let dimensions = self.info.space.dimensions;
        let (path, chunks, values) = (&new.document.path, new.chunks.len(), new.vectors.len());
        if values != chunks * dimensions {
            return Err(self.wrong_count(path, chunks, values));
        }
        check_numbers(&new.document, &new.chunks)?;
        let mut units = None;
        for (index, vector) in new.vectors.chunks_exact(dimensions).enumerate() {
            let subject = || format!("vector {index} of `{path}`");
            if let Some(unit) = to_unit(vector, dimensions, &self.info.name, &subject)? {
                let from = index * dimensions;
                let units: &mut Vec<f32> = units.get_or_insert_with(|| new.vectors.clone());
                units[from..from + dimensions].copy_from_slice(&unit);
            }
        }
        Ok(units)
    }

    fn wrong_count(&self, path: &str, chunks: usize, values: usize) -> Error {
        let expected = self.info.space.dimensions;
        if chunks > 0
            && values > 0
            && values.is_multiple_of(chunks)
            && !values.is_multiple_of(expected)
        {
            return ErrorKind::Width {
                collection: self.info.name.clone(),
                subject: format!("a vector of `{path}`"),
                expected,
                received: values / chunks,
            }
            .into();
        }
        ErrorKind::VectorCount {
            document: path.into(),
            chunks,
            vectors: values / expected,
        }
        .into()
    }
}

/// SQLite's integers end at 2⁶³ - 1; spans and lines must not run backwards.
fn check_numbers(document: &Document, chunks: &[Chunk]) -> Result<()> {
    let path = &document.path;
    integer(path, "size", document.size)?;
    for (ordinal, chunk) in chunks.iter().enumerate() {
        for number in [chunk.span.end, chunk.last_line, chunk.num_tokens] {
            integer(path, "chunk", number)?;
        }
        if chunk.span.start > chunk.span.end || chunk.first_line > chunk.last_line {
            let reason = format!(
                "chunk {ordinal} spans bytes {:?} and lines {} to {}, expected first before last",
                chunk.span, chunk.first_line, chunk.last_line
            );
            return Err(ErrorKind::InvalidDocument {
                document: path.clone(),
                reason,
            }
            .into());
        }
    }
    Ok(())
}

fn integer(path: &str, what: &str, number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| {
        let reason = format!("{what} has the number {number}, expected less than 2^63");
        ErrorKind::InvalidDocument {
            document: path.into(),
            reason,
        }
        .into()
    })
}

/// A number that [`check_numbers`] has seen.
fn checked(number: u64) -> i64 {
    i64::try_from(number).expect("numbers are checked before the transaction; this is a bug")
}

fn upsert(connection: &Connection, new: &NewDocument, vectors: &[f32]) -> rusqlite::Result<()> {
    let document = &new.document;
    let values = (
        &document.path,
        &document.content_hash,
        checked(document.size),
        document.modified_ns,
        &document.title,
        document.metadata.to_string(),
        new.chunks.len() as i64,
    );
    let id: i64 = connection
        .prepare_cached(UPSERT_DOCUMENT)?
        .query_row(values, |row| row.get(0))?;
    connection
        .prepare_cached("DELETE FROM chunks WHERE document = ?1")?
        .execute([id])?;
    let mut insert_vector =
        connection.prepare_cached("INSERT INTO vectors (vector) VALUES (?1)")?;
    let mut insert_chunk = connection.prepare_cached(INSERT_CHUNK)?;
    let dimensions = vectors.len() / new.chunks.len().max(1);
    for (ordinal, chunk) in new.chunks.iter().enumerate() {
        let vector = &vectors[ordinal * dimensions..(ordinal + 1) * dimensions];
        let bytes: Vec<u8> = vector
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let chunk_id = insert_vector.insert([bytes])?;
        insert_chunk.execute((
            chunk_id,
            id,
            ordinal as i64,
            checked(chunk.span.start),
            checked(chunk.span.end),
            checked(chunk.first_line),
            checked(chunk.last_line),
            serde_json::Value::from(chunk.heading_path.as_slice()).to_string(),
            checked(chunk.num_tokens),
            &chunk.text,
        ))?;
        text::insert(connection, chunk_id, &chunk.heading_path, &chunk.text)?;
    }
    Ok(())
}
