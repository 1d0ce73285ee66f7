//! The full-text index: which chunks have the words of a query (`crate::text::table`).
//!
//! The rows of its table are the chunks' ids.

use rusqlite::Connection;

use crate::text::table::TermTable;
use crate::text::{ANALYSIS_VERSION, terms};

/// The table of the index.
pub(super) const TERMS: TermTable<'static> = TermTable("chunk_terms");

/// Version 2's addition to the tables. The trigger keeps the index in step whatever program deletes a
/// chunk.
pub(super) fn tables() -> String {
    format!(
        "ALTER TABLE collection ADD COLUMN text_analysis INTEGER NOT NULL DEFAULT 0;
         CREATE VIRTUAL TABLE chunk_terms {};
         CREATE TRIGGER chunks_leave_the_index AFTER DELETE ON chunks
            BEGIN DELETE FROM chunk_terms WHERE rowid = old.id; END;",
        crate::text::table::USING
    )
}

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
    TERMS.clear(connection)?;
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
    TERMS.insert(connection, chunk_id, &chunk_terms(heading_path, text))
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

/// How many chunks the index has: all that there are.
pub(super) fn num_rows(state: &Connection) -> rusqlite::Result<usize> {
    let rows: i64 = state.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))?;
    Ok(usize::try_from(rows).unwrap_or(0))
}

/// The ids of chunks whose terms in the index are not those of their text, and of index rows
/// without a chunk.
pub(super) fn disagreeing(state: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut select = state.prepare("SELECT id, heading_path, text FROM chunks")?;
    let chunks = select.query_map([], |chunk| {
        let headings = headings(chunk.get_ref(1)?.as_str()?);
        let terms = chunk_terms(&headings, chunk.get_ref(2)?.as_str()?);
        Ok((chunk.get(0)?, terms))
    })?;
    TERMS.disagreeing(state, chunks)
}
