//! The full-text index of a collection whose owner wants one, and the search by vector and words
//! together.
//!
//! Each index is a table of its own, so that the words of one collection weigh nothing in another; its
//! rows are those of the points.

use rusqlite::{Connection, OptionalExtension};

use super::read::point_at;
use super::{SqliteStore, lock};
use crate::collection::{DEPTH, joined};
use crate::rows::{Allowed, Rows};
use crate::text::table::{Matches, TermTable, TextQuery, USING};
use crate::text::{ANALYSIS_VERSION, terms};
use crate::vector_store::index::{nearest, prepare};
use crate::vector_store::point::ScoredPoint;
use crate::vector_store::request::SearchRequest;
use crate::{ErrorKind, Fusion, Result};

/// The table of the index of the collection with this number.
fn table(collection: i64) -> String {
    format!("point_terms_{collection}")
}

/// The version of the analysis that an index was made by; 0 if there is none.
fn analysis(connection: &Connection, collection: i64) -> rusqlite::Result<u32> {
    let select = "SELECT text_analysis FROM collections WHERE id = ?1";
    let version = connection
        .prepare_cached(select)?
        .query_row([collection], |row| row.get(0))
        .optional()?;
    Ok(version.unwrap_or(0))
}

/// Brings the index, if there is one, in step with a point that was written.
pub(super) fn write(
    connection: &Connection,
    collection: i64,
    row: i64,
    text: &str,
) -> rusqlite::Result<()> {
    if analysis(connection, collection)? == 0 {
        return Ok(());
    }
    let name = table(collection);
    let table = TermTable(&name);
    // It may be there with another text.
    table.remove(connection, row)?;
    table.insert(connection, row, &terms(text))
}

/// Removes the index, if there is one, with what keeps it in step.
pub(super) fn remove(connection: &Connection, collection: i64) -> rusqlite::Result<()> {
    let table = table(collection);
    connection.execute_batch(&format!(
        "DROP TRIGGER IF EXISTS {table}_leave; DROP TABLE IF EXISTS {table};"
    ))
}

/// Makes the index, or makes it anew from the points' texts.
fn make(connection: &Connection, collection: i64) -> rusqlite::Result<()> {
    remove(connection, collection)?;
    let name = table(collection);
    // The trigger keeps it in step whatever program deletes a point.
    connection.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {name} {USING};
         CREATE TRIGGER {name}_leave AFTER DELETE ON points WHEN old.collection = {collection}
            BEGIN DELETE FROM {name} WHERE rowid = old.row; END;"
    ))?;
    let select = "SELECT row, text FROM points WHERE collection = ?1 ORDER BY row";
    let mut select = connection.prepare(select)?;
    let mut points = select.query([collection])?;
    while let Some(point) = points.next()? {
        let terms = terms(point.get_ref(1)?.as_str()?);
        TermTable(&name).insert(connection, point.get(0)?, &terms)?;
    }
    let update = "UPDATE collections SET text_analysis = ?2 WHERE id = ?1";
    connection
        .execute(update, (collection, ANALYSIS_VERSION))
        .map(drop)
}

impl SqliteStore {
    /// Keeps a full-text index of the points' texts from now on, for [`SqliteStore::search_hybrid`].
    /// Costs next to nothing if there is one already.
    ///
    /// # Errors
    ///
    /// If the collection was removed, or the file cannot be written.
    pub fn keep_text_index(&self) -> Result<()> {
        if self.has_text_index()? {
            return Ok(());
        }
        self.file.write(|connection| {
            self.version(connection)?;
            make(connection, self.id).map_err(|error| self.file.at(error))
        })
    }

    /// True if there is a full-text index by this version's analysis of texts.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn has_text_index(&self) -> Result<bool> {
        let version = self.file.read(|state| {
            self.version(state)?;
            analysis(state, self.id).map_err(|error| self.file.at(error))
        })?;
        Ok(version == ANALYSIS_VERSION)
    }

    /// The points closest to `vector` and `text` together, as `fusion` joins them; as
    /// [`VectorStore::search`](crate::vector_store::VectorStore::search) otherwise.
    ///
    /// # Errors
    ///
    /// If there is no full-text index ([`SqliteStore::keep_text_index`]), points have vectors with
    /// names, or the query has the wrong width, NaN, or no direction where the distance is the cosine.
    pub fn search_hybrid(
        &self,
        vector: &[f32],
        text: &str,
        fusion: Fusion,
        request: &SearchRequest,
    ) -> Result<Vec<ScoredPoint>> {
        if self.dimensions == 0 {
            let (name, known) = (String::new(), self.spaces.keys().cloned().collect());
            return Err(ErrorKind::UnknownVector { name, known }.into());
        }
        let distance = self.options.distance;
        let subject = || "the query".to_owned();
        let vector = prepare(distance, vector, self.dimensions, &self.name, &subject)?;
        let text = TextQuery::new(text);
        let wide = SearchRequest {
            top_k: request.offset.saturating_add(request.top_k).max(DEPTH),
            ..SearchRequest::default()
        };
        self.file.read(|state| {
            let allowed = self.allowed(state, request, None)?;
            let mut packed = lock(&self.packed);
            self.refresh(state, &mut packed)?;
            let rows = &packed.rows;
            let closest = |request: &SearchRequest, allowed: &Allowed| {
                nearest(rows, distance, &[&*vector], request, allowed)
                    .pop()
                    .unwrap_or_default()
            };
            let matches = self.matches(state, &text, rows)?;
            let words = best_rows(&matches, rows, &allowed, wide.top_k);
            let mut candidates = joined(&closest(&wide, &allowed), &words);
            // How close those are that only their words brought.
            let mut ranks: Vec<u32> = (candidates.iter())
                .filter(|found| found.cosine.is_none())
                .map(|found| rows.rank(found.row))
                .collect();
            ranks.sort_unstable();
            let others = SearchRequest {
                top_k: ranks.len(),
                ..SearchRequest::default()
            };
            for (score, row) in closest(&others, &Allowed::of(ranks)) {
                let found = candidates.iter_mut().find(|found| found.row == row);
                if let Some(found) = found {
                    found.cosine = Some(score);
                }
            }
            fusion.score(&mut candidates, matches.ideal);
            let least = request.score_threshold.unwrap_or(f32::NEG_INFINITY);
            candidates.retain(|found| found.score >= least);
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
            let found = candidates.iter().skip(request.offset).take(request.top_k);
            let scored = found.map(|found| {
                let row = i64::from(rows.rank(found.row));
                let point = point_at(state, row, request.with_vector)?;
                let score = found.score;
                Ok(ScoredPoint { score, point })
            });
            let scored = scored.collect::<rusqlite::Result<Vec<_>>>();
            self.pack_if_it_pays(&mut packed);
            scored.map_err(|error| self.file.at(error))
        })
    }

    fn matches(&self, state: &Connection, text: &TextQuery, rows: &Rows) -> Result<Matches> {
        let at = |error| self.file.at(error);
        if analysis(state, self.id).map_err(at)? == 0 {
            let path = self.file.path.clone();
            return Err(ErrorKind::NoTextIndex { path }.into());
        }
        let name = table(self.id);
        let matches = text.run(state, TermTable(&name), rows.num_live());
        matches.map_err(at)
    }

    /// The rows of points whose terms in the index are not those of their text, and of terms without a
    /// point.
    pub(super) fn disagreeing_texts(&self, state: &Connection) -> rusqlite::Result<Vec<i64>> {
        if analysis(state, self.id)? != ANALYSIS_VERSION {
            // It will be made anew before it is asked.
            return Ok(Vec::new());
        }
        let select = "SELECT row, text FROM points WHERE collection = ?1";
        let mut select = state.prepare(select)?;
        let points = select.query_map([self.id], |point| {
            Ok((point.get(0)?, terms(point.get_ref(1)?.as_str()?)))
        })?;
        let name = table(self.id);
        TermTable(&name).disagreeing(state, points)
    }

    /// Makes the index anew, if there is one.
    pub(super) fn repair_text_index(&self) -> Result<()> {
        self.file.write(|connection| {
            let repair = || match analysis(connection, self.id)? {
                0 => Ok(()),
                _ => make(connection, self.id),
            };
            repair().map_err(|error| self.file.at(error))
        })
    }
}

/// The allowed rows with the best matches, best first, at most `top_k`.
fn best_rows(matches: &Matches, rows: &Rows, allowed: &Allowed, top_k: usize) -> Vec<(f32, usize)> {
    let packed = |(row, score): &(i64, f32)| {
        let rank = u32::try_from(*row).ok()?;
        let row = rows.row_of_rank(rank).ok()?;
        (rows.is_live(row) && allowed.contains(rank)).then_some((*score, row))
    };
    let mut found: Vec<(f32, usize)> = matches.scores.iter().filter_map(packed).collect();
    found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.truncate(top_k);
    found
}
