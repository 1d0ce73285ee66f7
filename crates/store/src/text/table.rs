//! Terms in a full-text table of SQLite (FTS5), and the rows that have those of a query, weighed by BM25.
//!
//! The terms of [`super::terms`] go into a table that keeps no text of its own. BM25 is FTS5's, with
//! k1 = 1.2 and b = 0.75.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::Connection;

use super::{QueryTerm, query_terms};

/// FTS5's k1: a term's part of a score is below its inverse document frequency times k1 + 1.
const K1: f64 = 1.2;

/// What makes a table of terms, behind its name.
///
/// Terms come separated by spaces, in lower case; `tokenchars` are the marks inside of identifiers.
pub(crate) const USING: &str = r#"USING fts5(
        terms, content = '', contentless_delete = 1, tokenize = "ascii tokenchars '_.:-'"
    )"#;

/// A full-text table by its name, which is one of ours: letters, digits and `_`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TermTable<'a>(pub(crate) &'a str);

impl TermTable<'_> {
    /// Takes all rows out.
    pub(crate) fn clear(self, connection: &Connection) -> rusqlite::Result<()> {
        let table = self.0;
        connection.execute_batch(&format!(
            "INSERT INTO {table} ({table}) VALUES ('delete-all')"
        ))
    }

    /// Adds a row, which is not there yet.
    pub(crate) fn insert(
        self,
        connection: &Connection,
        row: i64,
        terms: &[String],
    ) -> rusqlite::Result<()> {
        let insert = format!("INSERT INTO {} (rowid, terms) VALUES (?1, ?2)", self.0);
        connection
            .prepare_cached(&insert)?
            .execute((row, terms.join(" ")))
            .map(drop)
    }

    /// Takes a row out, if it is there.
    pub(crate) fn remove(self, connection: &Connection, row: i64) -> rusqlite::Result<()> {
        let delete = format!("DELETE FROM {} WHERE rowid = ?1", self.0);
        connection.prepare_cached(&delete)?.execute([row]).map(drop)
    }

    /// Views of the table by term, in the connection's temporary schema.
    fn make_views(self, state: &Connection) -> rusqlite::Result<()> {
        let table = self.0;
        state.execute_batch(&format!(
            "CREATE VIRTUAL TABLE IF NOT EXISTS temp.{table}_counts
                USING fts5vocab(main, {table}, row);
             CREATE VIRTUAL TABLE IF NOT EXISTS temp.{table}_places
                USING fts5vocab(main, {table}, instance);"
        ))
    }

    /// The rows of which the table has other terms than these, and those that it should not have.
    pub(crate) fn disagreeing(
        self,
        state: &Connection,
        rows: impl IntoIterator<Item = rusqlite::Result<(i64, Vec<String>)>>,
    ) -> rusqlite::Result<Vec<i64>> {
        self.make_views(state)?;
        // A sum of hashes over the places of all terms: equal for equal sets, in whatever order.
        let mut differences: HashMap<i64, u64> = HashMap::new();
        for row in rows {
            let (id, terms) = row?;
            let sum = terms
                .iter()
                .zip(0i64..)
                .map(|(term, offset)| place_hash(term, offset))
                .fold(0u64, u64::wrapping_add);
            differences.insert(id, sum);
        }
        let select = format!("SELECT term, doc, offset FROM temp.{}_places", self.0);
        let mut select = state.prepare(&select)?;
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
}

/// A query as a table is asked for it.
pub(crate) struct TextQuery {
    terms: Vec<QueryTerm>,
}

/// What a table found.
pub(crate) struct Matches {
    /// `(row, BM25)` of every row that has a word of the query, in no order.
    pub(crate) scores: Vec<(i64, f32)>,
    /// What a row would reach that had nothing but the query's words, each many times.
    pub(crate) ideal: f32,
}

impl TextQuery {
    pub(crate) fn new(query: &str) -> Self {
        Self {
            terms: query_terms(query),
        }
    }

    /// Asks the table in the present state of the file; it has `num_rows` rows.
    pub(crate) fn run(
        &self,
        state: &Connection,
        table: TermTable<'_>,
        num_rows: usize,
    ) -> rusqlite::Result<Matches> {
        let mut matches = Matches {
            scores: Vec::new(),
            ideal: 0.0,
        };
        if self.terms.is_empty() {
            return Ok(matches);
        }
        table.make_views(state)?;
        matches.ideal = self.ideal(state, table, num_rows)?;
        let name = table.0;
        let select = format!("SELECT rowid, -bm25({name}) FROM {name} WHERE {name} MATCH ?1");
        let mut select = state.prepare_cached(&select)?;
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

    /// Words that no row has count the most: a row without them answers only a part.
    fn ideal(
        &self,
        state: &Connection,
        table: TermTable<'_>,
        num_rows: usize,
    ) -> rusqlite::Result<f32> {
        let rows = num_rows as f64;
        let counts = format!("temp.{}_counts", table.0);
        let exact = format!("SELECT doc FROM {counts} WHERE term = ?1");
        let mut exact = state.prepare_cached(&exact)?;
        let prefix = format!(
            "SELECT total(doc) FROM {counts} WHERE term >= ?1 AND term < ?1 || char(0x10ffff)"
        );
        let mut prefix = state.prepare_cached(&prefix)?;
        let mut ideal = 0.0;
        for term in &self.terms {
            let found = match term {
                QueryTerm::Exact(term) => {
                    exact.query_map([term], |row| row.get::<_, f64>(0))?.next()
                }
                QueryTerm::Prefix(term) => prefix.query_map([term], |row| row.get(0))?.next(),
            };
            let found = found.transpose()?.unwrap_or(0.0).min(rows);
            // As FTS5 has it, its floor included.
            let frequency = ((rows - found + 0.5) / (found + 0.5)).ln().max(1e-6);
            ideal += frequency * (K1 + 1.0);
        }
        Ok(ideal as f32)
    }
}

fn place_hash(term: &str, offset: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (term, offset).hash(&mut hasher);
    hasher.finish()
}
