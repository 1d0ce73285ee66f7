//! Reads documents, chunks and sizes.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::check::is_sound;
use super::index::index_path;
use super::open::log_path;
use super::packed::packed_path;
use super::{Collection, Statistics};
use crate::document::{Chunk, Document, DocumentInfo, Hit};
use crate::{Error, Result};

const SELECT_DOCUMENT: &str = "
    SELECT id, path, content_hash, size, modified_ns, title, metadata, num_chunks FROM documents";

const SELECT_CHUNK: &str = "
    SELECT id, ordinal, span_start, span_end, first_line, last_line, heading_path, num_tokens,
           text, document FROM chunks";

impl Collection {
    /// All documents, ordered by path (byte by byte).
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn documents(&self) -> Result<Vec<DocumentInfo>> {
        self.read(|connection| {
            let mut select =
                connection.prepare_cached(&format!("{SELECT_DOCUMENT} ORDER BY path"))?;
            let rows = select.query_map([], document_info)?;
            rows.collect()
        })
    }

    /// The document with this path.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn document(&self, path: &str) -> Result<Option<DocumentInfo>> {
        self.read(|connection| {
            let select = format!("{SELECT_DOCUMENT} WHERE path = ?1");
            connection
                .prepare_cached(&select)?
                .query_row([path], document_info)
                .optional()
        })
    }

    /// The chunks of a document in order; none if there is no such document.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn document_chunks(&self, document_id: i64) -> Result<Vec<Chunk>> {
        self.read(|connection| {
            let select = format!("{SELECT_CHUNK} WHERE document = ?1 ORDER BY ordinal");
            let mut select = connection.prepare_cached(&select)?;
            let rows = select.query_map([document_id], chunk)?;
            rows.collect()
        })
    }

    /// The vectors of chunks, in the order of `chunk_ids`, each at unit length.
    ///
    /// # Errors
    ///
    /// If there is no such chunk any more, or the file cannot be read.
    pub fn chunk_vectors(&self, chunk_ids: &[i64]) -> Result<Vec<Vec<f32>>> {
        self.read(|connection| {
            let select = "SELECT vector FROM vectors WHERE chunk = ?1";
            let mut select = connection.prepare_cached(select)?;
            let mut read = |id: &i64| {
                select.query_row([id], |row| {
                    Ok(to_floats(row.get_ref(0)?.as_blob()?).collect())
                })
            };
            chunk_ids.iter().map(&mut read).collect()
        })
    }

    /// The vectors of a document's chunks in order, `[chunks, dimensions]`, each at unit length.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn document_vectors(&self, document_id: i64) -> Result<Vec<f32>> {
        self.read(|connection| {
            let select = "SELECT vector FROM vectors JOIN chunks ON chunks.id = vectors.chunk
                          WHERE chunks.document = ?1 ORDER BY chunks.ordinal";
            let mut select = connection.prepare_cached(select)?;
            let mut rows = select.query([document_id])?;
            let mut vectors = Vec::new();
            while let Some(row) = rows.next()? {
                vectors.extend(to_floats(row.get_ref(0)?.as_blob()?));
            }
            Ok(vectors)
        })
    }

    /// The chunks of a document in order, each with its vector; without one whose vector is missing
    /// or damaged.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn document_passages(&self, document_id: i64) -> Result<Vec<(Chunk, Option<Vec<f32>>)>> {
        let dimensions = self.info.space.dimensions;
        self.read(|connection| {
            let select = "SELECT id, ordinal, span_start, span_end, first_line, last_line,
                    heading_path, num_tokens, text, document, vector
                FROM chunks LEFT JOIN vectors ON vectors.chunk = chunks.id
                WHERE document = ?1 ORDER BY ordinal";
            let mut select = connection.prepare_cached(select)?;
            let passages = select.query_map([document_id], |row| {
                let blob = row.get_ref(10)?.as_blob_or_null()?;
                let blob = blob.filter(|blob| is_sound(blob, dimensions));
                Ok((chunk(row)?, blob.map(|blob| to_floats(blob).collect())))
            })?;
            passages.collect()
        })
    }

    /// Up to `limit` chunks that have a vector, chosen at random; their scores are 0.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn sample_chunks(&self, limit: usize) -> Result<Vec<Hit>> {
        self.read(|state| {
            let select = "SELECT id FROM chunks WHERE id IN (SELECT chunk FROM vectors)
                          ORDER BY random() LIMIT ?1";
            let mut select = state.prepare_cached(select)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let ids = select.query_map([limit], |row| row.get(0))?;
            let ids = ids.collect::<rusqlite::Result<Vec<i64>>>()?;
            ids.into_iter().map(|id| read_hit(state, id, 0.0)).collect()
        })
    }

    /// A chunk with its document; its score is 0.
    pub(crate) fn chunk(&self, chunk_id: i64) -> Result<Option<Hit>> {
        self.read(|connection| read_hit(connection, chunk_id, 0.0).optional())
    }

    /// The ids of up to `limit` chunks from `first` on, in order.
    pub(crate) fn chunk_ids_from(&self, first: i64, limit: Option<usize>) -> Result<Vec<i64>> {
        // SQLite takes -1 for no limit.
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.read(|connection| {
            let select = "SELECT chunk FROM vectors WHERE chunk >= ?1 ORDER BY chunk LIMIT ?2";
            let mut select = connection.prepare_cached(select)?;
            select
                .query_map([first, limit], |row| row.get(0))?
                .collect()
        })
    }

    /// The vector of a chunk, at unit length.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn vector(&self, chunk_id: i64) -> Result<Option<Vec<f32>>> {
        self.read(|connection| {
            let select = "SELECT vector FROM vectors WHERE chunk = ?1";
            let read = |row: &Row<'_>| Ok(to_floats(row.get_ref(0)?.as_blob()?).collect());
            connection
                .prepare_cached(select)?
                .query_row([chunk_id], read)
                .optional()
        })
    }

    /// How much the collection holds.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn statistics(&self) -> Result<Statistics> {
        let select = "SELECT (SELECT count(*) FROM documents), count(*), total(num_tokens)
                      FROM chunks";
        let (num_documents, num_chunks, num_tokens) = self.read(|connection| {
            connection.query_row(select, [], |row| {
                Ok((count(row, 0)?, count(row, 1)?, row.get::<_, f64>(2)? as u64))
            })
        })?;
        let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let derived = [packed_path(&self.path), index_path(&self.path)];
        let paths = [&self.path, &log_path(&self.path), &derived[0], &derived[1]];
        let num_bytes = paths.into_iter().map(|path| size(path)).sum();
        let dimensions = self.info.space.dimensions;
        Ok(Statistics {
            num_documents,
            num_chunks,
            num_tokens,
            dimensions,
            num_bytes,
        })
    }

    /// Runs `query` on the reading connection.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        query(&self.reader().connection).map_err(|error| Error::sqlite(&self.path, error))
    }
}

/// The chunk with this id and its document.
pub(super) fn read_hit(
    connection: &Connection,
    chunk_id: i64,
    score: f32,
) -> rusqlite::Result<Hit> {
    let select = format!("{SELECT_CHUNK} WHERE id = ?1");
    let (chunk, ordinal, document_id) = connection
        .prepare_cached(&select)?
        .query_row([chunk_id], |row| {
            Ok((chunk(row)?, count(row, 1)?, row.get::<_, i64>(9)?))
        })?;
    let select = format!("{SELECT_DOCUMENT} WHERE id = ?1");
    let document = connection
        .prepare_cached(&select)?
        .query_row([document_id], document_info)?;
    Ok(Hit {
        score,
        cosine: None,
        bm25: None,
        chunk_id,
        ordinal,
        chunk,
        document,
    })
}

/// The values of a blob of little-endian `f32`.
pub(crate) fn to_floats(blob: &[u8]) -> impl Iterator<Item = f32> + '_ {
    blob.as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
}

fn document_info(row: &Row<'_>) -> rusqlite::Result<DocumentInfo> {
    let document = Document {
        path: row.get(1)?,
        content_hash: row.get(2)?,
        size: count(row, 3)?,
        modified_ns: row.get(4)?,
        title: row.get(5)?,
        metadata: json(row, 6)?,
    };
    Ok(DocumentInfo {
        id: row.get(0)?,
        document,
        num_chunks: count(row, 7)?,
    })
}

fn chunk(row: &Row<'_>) -> rusqlite::Result<Chunk> {
    let headings: Value = json(row, 6)?;
    let headings = headings.as_array().map(Vec::as_slice).unwrap_or_default();
    let heading = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Chunk {
        span: count(row, 2)?..count(row, 3)?,
        first_line: count(row, 4)?,
        last_line: count(row, 5)?,
        heading_path: headings.iter().map(heading).collect(),
        num_tokens: count(row, 7)?,
        text: row.get(8)?,
    })
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}
