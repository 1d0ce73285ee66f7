//! Search by vector over the packed rows.

use rusqlite::Connection;

use super::Collection;
use super::index::search_method;
use super::packed::{Packed, Reader};
use super::read::read_hit;
use super::schema::{self, Contents};
use crate::document::{Filter, Hit};
use crate::rows::to_unit;
use crate::{Error, ErrorKind, Result};

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
            self.expect_same_state(&state)?;
            packed.bring_up(&state, &self.path)?;
            *data_version = Some(version);
            let wanted = search_method(&state).map_err(at)?;
            let wanted = wanted.wanted(packed.rows.num_live(), packed.rows.dimensions());
            let wants_index = wanted.is_some() && !packed.rows.has_index();
            self.maintain_beside(&packed.rows, wants_index);
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
