//! The full-text index: which chunks have the words of a query, weighed by BM25.
//!
//! The terms of `crate::text` go into an FTS5 table that keeps no text of its own; its rows are
//! the chunks' ids. BM25 is FTS5's, with k1 = 1.2 and b = 0.75.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::Connection;

use crate::text::{ANALYSIS_VERSION, QueryTerm, query_terms, terms};

/// Version 2's addition to the tables.
///
/// Terms come separated by spaces, in lower case; `tokenchars` are the marks inside of identifiers.
/// The trigger keeps the index in step whatever program deletes a chunk.
pub(super) const TABLES: &str = r#"
    ALTER TABLE collection ADD COLUMN text_analysis INTEGER NOT NULL DEFAULT 0;
    CREATE VIRTUAL TABLE chunk_terms USING fts5(
        terms, content = '', contentless_delete = 1, tokenize = "ascii tokenchars '_.:-'"
    );
    CREATE TRIGGER chunks_leave_the_index AFTER DELETE ON chunks
        BEGIN DELETE FROM chunk_terms WHERE rowid = old.id; END;
"#;

/// Views of the index by term, in the connection's temporary schema.
const VIEWS: &str = "
    CREATE VIRTUAL TABLE IF NOT EXISTS temp.term_counts
        USING fts5vocab(main, chunk_terms, row);
    CREATE VIRTUAL TABLE IF NOT EXISTS temp.term_places
        USING fts5vocab(main, chunk_terms, instance);";

/// FTS5's k1: a term's part of a score is below its inverse document frequency times k1 + 1.
const K1: f64 = 1.2;

/// True if the index was made by this version's analysis of texts.
pub(super) fn is_analysed(connection: &Connection) -> rusqlite::Result<bool> {
    let select = "SELECT text_analysis FROM collection";
    let version: i64 = connection.query_row(select, [], |row| row.get(0))?;
    Ok(version == i64::from(ANALYSIS_VERSION))
}

/// Notes that the index is of this version's analysis.
pub(super) fn mark_analysed(connection: &Connection) -> rusqlite::Result<()> {
    let update = "UPDATE collection SET text_analysis = ?1";
    connection.execute(update, [ANALYSIS_VERSION]).map(drop)
}

/// Makes the index anew from the chunks' texts.
pub(super) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("INSERT INTO chunk_terms (chunk_terms) VALUES ('delete-all')")?;
    let mut select = connection.prepare("SELECT id, heading_path, text FROM chunks ORDER BY id")?;
    let mut chunks = select.query([])?;
    while let Some(chunk) = chunks.next()? {
        let headings = headings(chunk.get_ref(1)?.as_str()?);
        insert(
            connection,
            chunk.get(0)?,
            &headings,
            chunk.get_ref(2)?.as_str()?,
        )?;
    }
    mark_analysed(connection)
}

/// Adds a chunk to the index.
pub(super) fn insert(
    connection: &Connection,
    chunk_id: i64,
    heading_path: &[String],
    text: &str,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO chunk_terms (rowid, terms) VALUES (?1, ?2)";
    let terms = chunk_terms(heading_path, text).join(" ");
    connection
        .prepare_cached(insert)?
        .execute((chunk_id, terms))
        .map(drop)
}

/// A chunk is found by its headings as by its text.
fn chunk_terms(heading_path: &[String], text: &str) -> Vec<String> {
    let mut all: Vec<String> = heading_path
        .iter()
        .flat_map(|heading| terms(heading))
        .collect();
    all.append(&mut terms(text));
    all
}

fn headings(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

/// A query as the index is asked for it.
pub(super) struct TextQuery {
    terms: Vec<QueryTerm>,
}

/// What the index found.
pub(super) struct Matches {
    /// `(chunk id, BM25)` of every chunk that has a word of the query, in no order.
    pub(super) scores: Vec<(i64, f32)>,
    /// What a chunk would reach that had nothing but the query's words, each many times.
    pub(super) ideal: f32,
}

impl TextQuery {
    pub(super) fn new(query: &str) -> Self {
        Self {
            terms: query_terms(query),
        }
    }

    /// Asks the index of the present state of the file.
    pub(super) fn run(&self, state: &Connection) -> rusqlite::Result<Matches> {
        let mut matches = Matches {
            scores: Vec::new(),
            ideal: 0.0,
        };
        if self.terms.is_empty() {
            return Ok(matches);
        }
        state.execute_batch(VIEWS)?;
        matches.ideal = self.ideal(state)?;
        let select = "SELECT rowid, -bm25(chunk_terms) FROM chunk_terms WHERE chunk_terms MATCH ?1";
        let mut select = state.prepare_cached(select)?;
        let rows = select.query_map([self.expression()], |row| {
            Ok((row.get(0)?, row.get::<_, f64>(1)? as f32))
        })?;
        matches.scores = rows.collect::<rusqlite::Result<_>>()?;
        Ok(matches)
    }

    fn expression(&self) -> String {
        let terms = self.terms.iter().map(|term| match term {
            QueryTerm::Exact(term) => format!("\"{term}\""),
            QueryTerm::Prefix(term) => format!("\"{term}\" *"),
        });
        terms.collect::<Vec<_>>().join(" OR ")
    }

    /// Words that no chunk has count the most: a chunk without them answers only a part.
    fn ideal(&self, state: &Connection) -> rusqlite::Result<f32> {
        let rows: i64 = state.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))?;
        let mut exact = state.prepare_cached("SELECT doc FROM term_counts WHERE term = ?1")?;
        let mut prefix = state.prepare_cached(
            "SELECT total(doc) FROM term_counts WHERE term >= ?1 AND term < ?1 || char(0x10ffff)",
        )?;
        let mut ideal = 0.0;
        for term in &self.terms {
            let found = match term {
                QueryTerm::Exact(term) => {
                    exact.query_map([term], |row| row.get::<_, f64>(0))?.next()
                }
                QueryTerm::Prefix(term) => prefix.query_map([term], |row| row.get(0))?.next(),
            };
            let found = found.transpose()?.unwrap_or(0.0).min(rows as f64);
            // As FTS5 has it, its floor included.
            let frequency = ((rows as f64 - found + 0.5) / (found + 0.5)).ln().max(1e-6);
            ideal += frequency * (K1 + 1.0);
        }
        Ok(ideal as f32)
    }
}

/// The ids of chunks whose terms in the index are not those of their text, and of index rows
/// without a chunk.
pub(super) fn disagreeing(state: &Connection) -> rusqlite::Result<Vec<i64>> {
    state.execute_batch(VIEWS)?;
    // A sum of hashes over the places of all terms: equal for equal sets, in whatever order.
    let mut differences: HashMap<i64, u64> = HashMap::new();
    let mut select = state.prepare("SELECT id, heading_path, text FROM chunks")?;
    let mut chunks = select.query([])?;
    while let Some(chunk) = chunks.next()? {
        let terms = chunk_terms(
            &headings(chunk.get_ref(1)?.as_str()?),
            chunk.get_ref(2)?.as_str()?,
        );
        let sum = terms
            .iter()
            .zip(0i64..)
            .map(|(term, offset)| place_hash(term, offset))
            .fold(0u64, u64::wrapping_add);
        differences.insert(chunk.get(0)?, sum);
    }
    let mut select = state.prepare("SELECT term, doc, offset FROM term_places")?;
    let mut places = select.query([])?;
    while let Some(place) = places.next()? {
        let hash = place_hash(place.get_ref(0)?.as_str()?, place.get(2)?);
        let sum = differences.entry(place.get(1)?).or_default();
        *sum = sum.wrapping_sub(hash);
    }
    let mut ids: Vec<i64> = differences
        .into_iter()
        .filter(|(_, difference)| *difference != 0)
        .map(|(id, _)| id)
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

fn place_hash(term: &str, offset: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (term, offset).hash(&mut hasher);
    hasher.finish()
}
