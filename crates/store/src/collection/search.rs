//! Exact search: the vectors packed in memory, kept in step with the file.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use rusqlite::{Connection, Row};
use serde_json::Value;

use super::Collection;
use super::read::{json, read_hit, to_floats};
use super::schema::{self, Contents};
use crate::document::{Filter, Hit};
use crate::filter::Conditions;
use crate::rows::{Allowed, Rows, to_unit};
use crate::{Error, ErrorKind, Result};

/// The reading connection with what it has read of the vectors.
pub(super) struct Reader {
    pub(super) connection: Connection,
    packed: Packed,
    /// SQLite's mark of the state that `packed` was read in; `None` before the first search.
    data_version: Option<i64>,
}

/// The vectors of a collection, row by row, in the order of their chunks' ids.
pub(super) struct Packed {
    pub(super) chunk_ids: Vec<i64>,
    /// A row's rank is its place among all chunks ordered by document path and ordinal.
    pub(super) rows: Rows,
    /// In the order of their paths.
    documents: Vec<PackedDocument>,
}

/// A chunk's id and rank.
type LiveChunk = (i64, u32);

struct PackedDocument {
    id: i64,
    path: String,
    ranks: Range<u32>,
}

impl Collection {
    /// The `top_k` chunks closest to `query`, best first; equal scores are ordered by document
    /// path, then by place in the document.
    ///
    /// The first search reads the vectors of the collection into memory; later ones read only what
    /// has changed since, by whatever process.
    ///
    /// # Errors
    ///
    /// If the query has the wrong width, NaN or no direction, or the file cannot be read.
    pub fn search(&self, query: &[f32], top_k: usize, filter: &Filter) -> Result<Vec<Hit>> {
        let mut hits = self.search_batch(&[query], top_k, filter)?;
        Ok(hits.pop().unwrap_or_default())
    }

    /// [`Collection::search`] for many queries, which share one pass over the vectors.
    ///
    /// # Errors
    ///
    /// As [`Collection::search`].
    pub fn search_batch(
        &self,
        queries: &[impl AsRef<[f32]>],
        top_k: usize,
        filter: &Filter,
    ) -> Result<Vec<Vec<Hit>>> {
        self.with_nearest(queries, top_k, filter, |state, nearest| {
            let to_hit = |(chunk_id, score)| {
                let hit = read_hit(state, chunk_id, score)?;
                Ok(Hit {
                    cosine: Some(score),
                    ..hit
                })
            };
            nearest
                .into_iter()
                .map(|found| found.into_iter().map(to_hit).collect())
                .collect()
        })
    }

    /// [`Collection::search_batch`] without reading the chunks: `(chunk id, cosine)`, best first.
    ///
    /// # Errors
    ///
    /// As [`Collection::search`].
    pub fn nearest_batch(
        &self,
        queries: &[impl AsRef<[f32]>],
        top_k: usize,
        filter: &Filter,
    ) -> Result<Vec<Vec<(i64, f32)>>> {
        self.with_nearest(queries, top_k, filter, |_, nearest| Ok(nearest))
    }

    fn with_nearest<T>(
        &self,
        queries: &[impl AsRef<[f32]>],
        top_k: usize,
        filter: &Filter,
        read: impl FnOnce(&Connection, Vec<Vec<(i64, f32)>>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let units = self.unit_queries(queries)?;
        let queries: Vec<&[f32]> = queries
            .iter()
            .zip(&units)
            .map(|(query, unit)| unit.as_deref().unwrap_or(query.as_ref()))
            .collect();
        self.with_state(|state, packed| {
            let at = |error| Error::sqlite(&self.path, error);
            let allowed = packed.allowed(state, filter).map_err(at)?;
            let nearest = packed.rows.search(&queries, top_k, &allowed);
            let with_id = |(score, row): (f32, usize)| (packed.chunk_ids[row], score);
            let nearest = nearest
                .into_iter()
                .map(|rows| rows.into_iter().map(with_id).collect())
                .collect();
            read(state, nearest).map_err(at)
        })
    }

    /// Runs `search` on one state of the file, for vectors and texts alike, whatever is written
    /// meanwhile; the rows are those of this state.
    pub(super) fn with_state<T>(
        &self,
        search: impl FnOnce(&Connection, &Packed) -> Result<T>,
    ) -> Result<T> {
        let at = |error| Error::sqlite(&self.path, error);
        let mut reader = self.reader();
        let Reader {
            connection,
            packed,
            data_version,
        } = &mut *reader;
        let state = connection.transaction().map_err(at)?;
        let version = state
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .map_err(at)?;
        if *data_version != Some(version) {
            *data_version = None;
            packed.refresh(&state, &self.path)?;
            *data_version = Some(version);
        }
        search(&state, packed)
    }

    /// Refuses a file that was written before there was a text index.
    pub(super) fn expect_text_index(&self, state: &Connection) -> Result<()> {
        match schema::identify(state, &self.path)? {
            Contents::Collection { version: 2.. } => Ok(()),
            _ => Err(ErrorKind::NoTextIndex {
                path: self.path.clone(),
            }
            .into()),
        }
    }

    pub(super) fn unit_queries(
        &self,
        queries: &[impl AsRef<[f32]>],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let dimensions = self.info.space.dimensions;
        let several = queries.len() > 1;
        queries
            .iter()
            .enumerate()
            .map(|(index, query)| {
                let subject = || {
                    if several {
                        format!("query {index}")
                    } else {
                        "the query".into()
                    }
                };
                to_unit(query.as_ref(), dimensions, &self.info.name, &subject)
            })
            .collect()
    }
}

impl Reader {
    pub(super) fn new(connection: Connection, dimensions: usize) -> Self {
        let packed = Packed {
            chunk_ids: Vec::new(),
            rows: Rows::new(dimensions),
            documents: Vec::new(),
        };
        Self {
            connection,
            packed,
            data_version: None,
        }
    }
}

impl Packed {
    /// Brings the rows in step with the file: drops those of removed chunks, reads the new ones.
    ///
    /// Ids grow and are never used again, and a vector never changes under its id (`schema`), so
    /// what is new lies behind the last id known.
    fn refresh(&mut self, state: &Connection, path: &Path) -> Result<()> {
        let at = |error| Error::sqlite(path, error);
        let (documents, live) = read_order(state).map_err(at)?;
        self.documents = documents;
        let mut known = live.iter().copied().peekable();
        let chunk_ids = std::mem::take(&mut self.chunk_ids);
        // Ids and rows stay in step, so that a reading that fails half-way can be taken up again.
        let kept = &mut self.chunk_ids;
        self.rows.retain(|row| {
            while known.next_if(|(id, _)| *id < chunk_ids[row]).is_some() {}
            known
                .next_if(|(id, _)| *id == chunk_ids[row])
                .map(|(id, rank)| {
                    kept.push(id);
                    rank
                })
        });
        let last = chunk_ids.last().copied().unwrap_or(0);
        let new = &live[live.partition_point(|(id, _)| *id <= last)..];
        if self.rows.len() + new.len() != live.len() {
            return Err(Error::corrupt(
                path,
                "chunks came back under ids already used",
            ));
        }
        self.append(state, path, last, new)
    }

    /// Reads the vectors behind the chunk `last`, which must be those of `new`.
    fn append(
        &mut self,
        state: &Connection,
        path: &Path,
        last: i64,
        new: &[LiveChunk],
    ) -> Result<()> {
        let at = |error| Error::sqlite(path, error);
        self.rows.reserve(new.len());
        self.chunk_ids.reserve_exact(new.len());
        let select = "SELECT chunk, vector FROM vectors WHERE chunk > ?1 ORDER BY chunk";
        let mut select = state.prepare_cached(select).map_err(at)?;
        let mut vectors = select.query([last]).map_err(at)?;
        let mut new = new.iter();
        while let Some(vector) = vectors.next().map_err(at)? {
            let id: i64 = vector.get(0).map_err(at)?;
            let blob = vector.get_ref(1).map_err(at)?.as_blob().unwrap_or_default();
            let rank = new
                .next()
                .filter(|(chunk, _)| *chunk == id)
                .map(|(_, rank)| *rank);
            match rank {
                Some(rank) if blob.len() == self.rows.dimensions() * size_of::<f32>() => {
                    self.rows.push(to_floats(blob), rank);
                    self.chunk_ids.push(id);
                }
                _ => return Err(disagree(path, id)),
            }
        }
        match new.next() {
            Some((id, _)) => Err(disagree(path, *id)),
            None => Ok(()),
        }
    }

    /// The row of a chunk.
    pub(super) fn row_of(&self, chunk_id: i64) -> Option<usize> {
        self.chunk_ids.binary_search(&chunk_id).ok()
    }

    /// The rows that the filter lets through, by the metadata in this state of the file.
    pub(super) fn allowed(&self, state: &Connection, filter: &Filter) -> rusqlite::Result<Allowed> {
        let Filter {
            path_prefix,
            document_ids,
            conditions,
        } = filter;
        if path_prefix.is_none() && document_ids.is_none() && conditions.is_none() {
            return Ok(Allowed::All);
        }
        let prefix = path_prefix.as_deref().unwrap_or_default();
        let mut ids = document_ids
            .as_ref()
            .map(|ids| ids.iter().copied().collect::<HashSet<_>>());
        if let Some(conditions) = conditions {
            let met = meeting(state, conditions)?;
            ids = Some(match ids {
                Some(ids) => &ids & &met,
                None => met,
            });
        }
        let first = self
            .documents
            .partition_point(|document| document.path.as_str() < prefix);
        let ranks = self.documents[first..]
            .iter()
            .take_while(|document| document.path.starts_with(prefix))
            .filter(|document| ids.as_ref().is_none_or(|ids| ids.contains(&document.id)))
            .map(|document| document.ranks.clone());
        Ok(Allowed::Ranks(ranks.collect()))
    }
}

/// The ids of the documents that meet `conditions`.
fn meeting(state: &Connection, conditions: &Conditions) -> rusqlite::Result<HashSet<i64>> {
    let mut select = state.prepare_cached("SELECT id, path, title, metadata FROM documents")?;
    let mut documents = select.query([])?;
    let mut met = HashSet::new();
    while let Some(document) = documents.next()? {
        let (id, path): (i64, String) = (document.get(0)?, document.get(1)?);
        let mut metadata = json(document, 3)?;
        if metadata.is_null() {
            metadata = Value::Object(serde_json::Map::new());
        }
        if let Some(fields) = metadata.as_object_mut() {
            fields.entry("path").or_insert_with(|| path.clone().into());
            if let Some(title) = document.get::<_, Option<String>>(2)? {
                fields.entry("title").or_insert_with(|| title.into());
            }
        }
        if conditions.matches(&[id.into(), path.into()], &metadata) {
            met.insert(id);
        }
    }
    Ok(met)
}

fn disagree(path: &Path, chunk_id: i64) -> Error {
    Error::corrupt(path, format!("chunk {chunk_id} and its vector disagree"))
}

/// The documents in the order of their paths, and all chunks in the order of their ids.
///
/// Both queries are answered from indexes alone, so no text is read.
fn read_order(state: &Connection) -> rusqlite::Result<(Vec<PackedDocument>, Vec<LiveChunk>)> {
    let mut select =
        state.prepare_cached("SELECT document, id FROM chunks ORDER BY document, ordinal")?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let chunks = select
        .query_map([], pair)?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let by_document: HashMap<i64, &[(i64, i64)]> = chunks
        .chunk_by(|a, b| a.0 == b.0)
        .map(|run| (run[0].0, run))
        .collect();

    let mut select = state.prepare_cached("SELECT id, path FROM documents ORDER BY path")?;
    let mut documents = Vec::new();
    let mut live = Vec::with_capacity(chunks.len());
    let mut rank = 0;
    for document in select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (id, path) = document?;
        let first = rank;
        for (_, chunk_id) in by_document.get(&id).copied().unwrap_or_default() {
            live.push((*chunk_id, rank));
            rank += 1;
        }
        documents.push(PackedDocument {
            id,
            path,
            ranks: first..rank,
        });
    }
    live.sort_unstable();
    Ok((documents, live))
}
